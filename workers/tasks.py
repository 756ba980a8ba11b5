"""The Celery tasks: one a task type, which does the work that an announcement points to; and maintain."""

from __future__ import annotations

import gc
import logging
import threading
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from celery import Celery, Task
from celery.signals import worker_init, worker_process_init, worker_shutting_down

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Deadline
from gifty_compute.engines.base import Engine
from gifty_compute.errors import EngineError, GiftyComputeError, InvalidConfig
from gifty_compute.perform import Pipeline, Tools, Verdict
from gifty_compute.perform.pace import Pace
from gifty_compute.perform.running import Running
from gifty_compute.queue.announce import task_name
from gifty_compute.wire import task as wire
from workers.equipment import Equipment, equip
from workers.presence import PresenceReports

__all__ = ["Worker", "register"]

log = logging.getLogger(__name__)

# An announcement means "there is work in this queue": the worker goes on for a bounded time, so that Celery's
# own heartbeat and other queues get their turn, and leaves a follow-up for whoever comes next.
_SECONDS_AN_ANNOUNCEMENT = 5.0
# A claim that is refused costs its announcement. Without a pause a worker whose facade is down, or whose
# token was revoked, would eat the announcements that others could work off.
_TROUBLE = Backoff(base=0.5, cap=5.0)


def register(app: Celery, running: Running) -> Worker:
    """Gives the app a task for each type that is served, and maintain; gives the worker that does them.

    A worker is equipped when it starts, in the process that works: Flower and beat load these tasks too, and
    have no business with the database.
    """
    worker = Worker(app, running)
    worker_init.connect(worker.start, weak=False)
    worker_process_init.connect(worker.begin, weak=False)
    worker_shutting_down.connect(worker.stop, weak=False)
    for task_type in sorted({kind for kind, _ in running.queues}):
        _register_type(app, worker, task_type)

    @app.task(name="gifty.maintain")  # type: ignore[untyped-decorator]
    def maintain() -> str:
        maintainer = worker.equipment.maintainer
        if maintainer is None:
            raise InvalidConfig("a worker without DATABASE_URL cannot maintain; leave that queue to others")
        report = maintainer.run_pass()
        return "another process is at it" if report is None else str(report)

    return worker


def _register_type(app: Celery, worker: Worker, task_type: str) -> None:
    @app.task(name=task_name(task_type), bind=True)  # type: ignore[untyped-decorator]
    def announced(self: Task, model: str, ids: list[str]) -> str:
        holder = wire.Holder(worker_id=self.request.hostname, session=uuid4().hex, credential="celery")
        named = tuple(UUID(one) for one in ids)
        return str(worker.work_off(holder, (task_type, model), named))


class Worker:
    """This process as a worker: its equipment, and whether it has been asked to stop."""

    def __init__(self, app: Celery, running: Running) -> None:
        self._app, self._running = app, running
        self._loaded: list[Engine] = []
        self._stop = threading.Event()
        self._refused = 0
        self._presence = PresenceReports(app, running, self._stop)
        self._name = ""

    def start(self, sender: Any, **_: object) -> None:
        """Fails the start over a bad setting: Celery would only log what a signal handler raises."""
        try:
            version = self.equipment.logic_watch.current.version
            takes = ", ".join("/".join(pair) for pair in self._presence.pairs())
            log.info("worker starts with logic %s and takes %s", version, takes or "no tasks")
        except InvalidConfig as error:
            raise SystemExit(str(error)) from error
        self._name = sender.hostname
        # Neither threads nor a model that is loaded survive a fork (a warm parent hangs every child):
        # prefork's children begin by themselves, in worker_process_init.
        if "prefork" not in sender.pool_cls.__module__:
            self.begin(is_child=False)

    def begin(self, *, is_child: bool = True, **_: object) -> None:
        """Begins in the process that works. Without its engines it would fail the whole queue."""
        self.equipment.logic_watch.start()
        try:
            self._loaded = [self.equipment.inference.load(name) for name in self._running.engines]
        except EngineError as error:
            raise SystemExit(f"this worker cannot work: {error}") from error
        # What is loaded by now stays. A full pass of the collector over it stops all threads for 50 ms.
        gc.collect()
        gc.freeze()
        self._presence.start(self._name, self.equipment.say, is_child=is_child)

    def stop(self, **_: object) -> None:
        self._stop.set()

    @cached_property
    def equipment(self) -> Equipment:
        return equip(self._app, self._running)

    def precisions(self) -> list[str]:
        """In what numbers its engines compute; none under prefork, whose children load them."""
        return [one.precision for one in self._loaded if one.precision]

    def work_off(self, holder: wire.Holder, queue: tuple[str, str], named: tuple[UUID, ...]) -> Verdict:
        """The announced tasks first, then the next ready ones of the queue, until none or time is left."""
        line = Pipeline(
            self.equipment.source,
            holder,
            self.equipment.running.performer(self.equipment.inference),
            Tools(stop=self._stop, rng=self.equipment.rng, clock=self.equipment.clock),
            pace=Pace(window=_SECONDS_AN_ANNOUNCEMENT),
        )
        with line:
            named_here = (
                self._claim(line, wire.Want(ids=named, limit=len(named), claim_id=uuid4())) if named else 0
            )
            self._go_on(line, queue)
            verdict = line.finish()
        return verdict + Verdict(lost=len(named) - named_here)

    def _go_on(self, line: Pipeline, queue: tuple[str, str]) -> None:
        task_type, model = queue
        until = Deadline.after(_SECONDS_AN_ANNOUNCEMENT, self.equipment.clock)
        while not self._stop.is_set():
            if until.expired:
                self.equipment.announcer.follow_up(task_type, model)
                return
            limit = line.limit()
            if not limit:
                line.wait(until.remaining)
            elif not self._claim(line, wire.Want(task_types=(task_type,), models=(model,), limit=limit)):
                return

    def _claim(self, line: Pipeline, want: wire.Want) -> int:
        try:
            claimed = line.claim(want)
        except GiftyComputeError:
            self._refused += 1
            line.finish()
            self._stop.wait(_TROUBLE.delay(self._refused, self.equipment.rng))
            raise
        self._refused = 0
        return claimed
