"""Hand: the tasks that a worker holds, and the thread that renews their leases."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from gifty_compute.clock import Clock
from gifty_compute.errors import GiftyComputeError
from gifty_compute.perform.source import TaskSource
from gifty_compute.wire.task import Claimed, Extension, Held, Holder

__all__ = ["Hand"]

log = logging.getLogger(__name__)

# A third of the usual lease: what an idle worker is heard of, and a lease outlives two missed beats.
_IDLE_SECONDS = 30.0
Gone = Callable[[Sequence[UUID], Sequence[UUID]], None]
"""Hears which tasks were lost, and which were cancelled."""

# What a holder's session does not name in so many heartbeats goes back.
_MISSES = 2


class Hand:
    """All that one session holds. Its heartbeats say so (`exhaustive`), so a task that was claimed in an
    answer that never arrived goes back by itself.

    The thread only waits and calls the source: whoever computes may be busy for as long as he likes.
    """

    def __init__(
        self, source: TaskSource, holder: Holder, clock: Clock, gone: Gone, *, beats_when_empty: bool
    ) -> None:
        self._source, self._holder, self._clock, self._gone = source, holder, clock, gone
        self._beats_when_empty = beats_when_empty
        self._held: dict[UUID, Held] = {}
        self._until: dict[UUID, float] = {}
        self._cancelled: set[UUID] = set()
        self._lease, self._last_beat = _IDLE_SECONDS * 3, clock.monotonic()
        self._told_to_drain = self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """From now on leases are renewed."""
        self._thread.start()

    def close(self) -> None:
        """No lease is renewed any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether leases are being renewed."""
        return self._thread.is_alive()

    def take(self, claimed: Claimed, since: float) -> None:
        """Adds what was claimed by a call that was made at that moment."""
        with self._changed:
            self._lease = claimed.lease_seconds
            for task in claimed.tasks:
                self._held[task.id] = Held(id=task.id, attempt=task.attempt)
                self._until[task.id] = since + claimed.lease_seconds
                self._cancelled.discard(task.id)
            self._changed.notify_all()

    def drop(self, task_id: UUID) -> None:
        """It has ended or gone back; no heartbeat names it any more."""
        with self._changed:
            self._held.pop(task_id, None)
            self._until.pop(task_id, None)

    def holds(self, task_id: UUID) -> bool:
        """Whether the task is still wanted from this worker."""
        return task_id in self._held

    def was_cancelled(self, task_id: UUID) -> bool:
        """Whether nobody wants its result any more, from whomever."""
        return task_id in self._cancelled

    @property
    def told_to_drain(self) -> bool:
        """Whether the last answer asked to claim nothing more."""
        return self._told_to_drain

    @property
    def lease_seconds(self) -> float:
        """How long a lease lasts, by the last claim."""
        return self._lease

    def lease_left(self) -> float | None:
        """Seconds until the first of the leases would run out, if no heartbeat came any more."""
        with self._changed:
            until = min(self._until.values(), default=None)
        return None if until is None else until - self._clock.monotonic()

    def disown(self) -> None:
        """Says twice that nothing is held: what came in an answer that nobody read is pending at once.

        Raises GiftyComputeError; then leases run out instead.
        """
        for _ in range(_MISSES):
            self._source.extend(self._holder, [], exhaustive=True)

    def _run(self) -> None:
        while self._wait_until_due():
            with self._changed:
                held = list(self._held.values())
            began = self._last_beat = self._clock.monotonic()
            if not held and not self._beats_when_empty:
                continue
            try:
                extension = self._source.extend(self._holder, held, exhaustive=True)
            except GiftyComputeError as error:
                # The next one may get through.
                log.warning("heartbeat for %d tasks failed: %s", len(held), error)
            else:
                self._note(held, extension, began)

    def _wait_until_due(self) -> bool:
        """Returns when the next beat is due; False when there is none any more."""
        with self._changed:
            while not self._is_over:
                left = self._last_beat + self._lease / 3 - self._clock.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
        return False

    def _note(self, beaten: list[Held], extension: Extension, began: float) -> None:
        attempts = {one.id: one.attempt for one in beaten}
        with self._changed:
            self._told_to_drain = extension.drain
            # What was claimed anew since the beat is not what was lost.
            lost, cancelled = (
                [one for one in gone if one in self._held and self._held[one].attempt == attempts.get(one)]
                for gone in (extension.lost, extension.cancelled)
            )
            for task_id in (*lost, *cancelled):
                del self._held[task_id], self._until[task_id]
            self._cancelled.update(cancelled)
            for task_id in attempts.keys() & self._until.keys():
                self._until[task_id] = began + self._lease
        if lost or cancelled:
            self._gone(lost, cancelled)
