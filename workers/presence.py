"""A Celery worker's presence: while it consumes, it reports that it runs and which tasks it takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, bootsteps

from gifty_compute.errors import GiftyComputeError
from gifty_compute.perform.running import Running
from gifty_compute.queue.announce import queue_name
from gifty_compute.queue.presence import Pair
from gifty_compute.wire.task import Holder

__all__ = ["PresenceReports", "Say"]

log = logging.getLogger(__name__)

Say = Callable[[Holder, Sequence[Pair]], None]
"""Stores that a worker is there and takes these pairs. Raises GiftyComputeError."""
# A worker counts as gone after 90 seconds of silence.
_PERIOD_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class PresenceReports:
    """Reports every ten seconds from a thread of its own, as long as the broker tells the worker of work.

    A worker that has lost the broker gets no task, so it must not count as one that serves a queue.
    """

    def __init__(self, app: Celery, running: Running, stop: threading.Event) -> None:
        self._app, self._running, self._stop = app, running, stop
        self._consuming = threading.Event()
        app.steps["consumer"].add(self._step())

    def start(self, worker_id: str, say: Say, *, is_child: bool) -> None:
        """Begins to report. A child of prefork takes it for granted that its parent consumes."""
        if is_child:
            self._consuming.set()
        holder = Holder(worker_id=worker_id, credential="celery")
        threading.Thread(target=self._run, args=(holder, say), name="presence", daemon=True).start()

    def pairs(self) -> list[Pair]:
        """The pairs of the queues that it consumes: the option -Q, and `celery control`, leave some out."""
        consumed = self._app.amqp.queues.consume_from
        return [pair for pair in self._running.queues if queue_name(*pair) in consumed]

    def _run(self, holder: Holder, say: Say) -> None:
        while not self._stop.is_set():
            if not self._consuming.wait(_LOOK_SECONDS):
                continue
            try:
                say(holder, self.pairs())
            except GiftyComputeError as error:
                log.warning("this worker could not say that it is there: %s", error)
            except Exception:
                # The thread goes on after a fault: without it the worker would count as gone.
                log.exception("this worker could not say that it is there")
            self._stop.wait(_PERIOD_SECONDS)

    def _step(self) -> type[bootsteps.StartStopStep]:
        consuming = self._consuming

        class Consuming(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
            """Started when the worker consumes, stopped when its connection to the broker breaks."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, _parent: Any) -> None:
                consuming.set()

            def stop(self, _parent: Any) -> None:
                consuming.clear()

        return Consuming
