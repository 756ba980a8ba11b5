"""Pipeline: tasks on their way through a worker.

```
source.claim ──▶ hand ──▶ performer ──▶ reports ──▶ source.report
                  │ heartbeat: source.extend at a third of the lease
                  └ stop asked for: source.release what has not begun
```
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID

from gifty_compute.clock import Deadline
from gifty_compute.errors import EngineError, GiftyComputeError, OutOfMemory, Unavailable
from gifty_compute.perform.hand import Hand
from gifty_compute.perform.pace import MOST_IN_HAND, Load, Pace, items_of
from gifty_compute.perform.reports import Reports, failure
from gifty_compute.perform.source import Performer, TaskSource
from gifty_compute.perform.spool import Spool
from gifty_compute.perform.tools import Tools
from gifty_compute.perform.verdict import Verdict
from gifty_compute.wire.task import Held, Holder, Outcome, Task, Want

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)

# How often somebody who waits looks whether he is to stop.
_LOOK_SECONDS = 0.1
_LONGEST_WAIT_FOR_ROOM = 1.0
# A report that is under way when all else is over.
_LAST_CALL_SECONDS = 5.0


@dataclass(eq=False)
class _Work:
    """A task in the performer; `future` is None until it has taken it."""

    task: Task
    items: int
    future: Future[dict[str, Any]] | None = None
    is_done: bool = False
    is_going_back: bool = False


class Pipeline:
    """One session's tasks: claimed while others are worked on, reported in bulk when they are done.

    `claim` and `finish` are called by one thread. A failure of the performer is the task's. A source that
    cannot be reached is nobody's: outcomes are told again within the worker's patience, and after that the
    lease runs out and somebody else does the task.
    """

    def __init__(
        self,
        source: TaskSource,
        holder: Holder,
        performer: Performer,
        tools: Tools,
        *,
        pace: Pace | None = None,
        spool: Spool | None = None,
        beats_when_empty: bool = False,
    ) -> None:
        self._source, self._holder, self._performer, self._tools = source, holder, performer, tools
        self.pace = pace or Pace()
        self.hand = Hand(source, holder, tools.clock, self._gone, beats_when_empty=beats_when_empty)
        self._reports = Reports(source, holder, tools, self._told, spool)
        self._works: dict[UUID, _Work] = {}
        self._worked_until = tools.clock.monotonic()
        self._may_hold_more = self._fails = False
        self._verdict = Verdict()
        self._changed = threading.Condition()

    def __enter__(self) -> Pipeline:
        self.hand.start()
        self._reports.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back(list(self._works.values()))
        self._reports.close(_LAST_CALL_SECONDS)
        self.hand.close()
        if self._may_hold_more:
            self._disown()

    @property
    def verdict(self) -> Verdict:
        """How those of its tasks ended that have."""
        return self._verdict

    @property
    def in_hand(self) -> int:
        """Tasks that were claimed and have not ended."""
        return len(self._works)

    def limit(self, left: float | None = None) -> int:
        """How many tasks to claim now, if they must be done within `left` seconds."""
        with self._changed:
            if self._fails and self._works:
                # Perhaps this machine fails every task. Then it must not race through the queue.
                return 0
            undone = self._undone()
            unreported = len(self._works) - len(undone)
        items = sum(work.items for work in undone)
        limit = self.pace.limit(Load(len(undone), items, self.hand.lease_seconds, left))
        return max(0, min(limit, MOST_IN_HAND - len(undone) - unreported))

    def claim(self, want: Want) -> int:
        """Claims once and hands all of it to the performer; how many tasks that were.

        Raises GiftyComputeError when the claim fails; what is in hand goes on.
        """
        self._insist_on_threads()
        began, self._may_hold_more = self._tools.clock.monotonic(), True
        try:
            claimed = self._source.claim(self._holder, want)
        except GiftyComputeError as error:
            self._may_hold_more = isinstance(error, Unavailable)
            raise
        self.hand.take(claimed, began)
        for task in claimed.tasks:
            self._begin(task)
        self._may_hold_more = False
        self.pace.claimed([items_of(task) for task in claimed.tasks])
        return len(claimed.tasks)

    def wait(self, seconds: float) -> None:
        """Returns when something in hand has ended, when the worker is to stop, or after so many seconds."""
        seen = self._verdict
        until = Deadline.after(seconds, self._tools.clock)
        with self._changed:
            while self._verdict == seen and not self._tools.stop.is_set() and not until.expired:
                self._changed.wait(min(_LOOK_SECONDS, until.remaining))

    def finish(self, until: Deadline | None = None) -> Verdict:
        """Returns when nothing is in hand: it waits for all of it, or, once the worker is to stop, for what
        has begun, and gives back the rest. At `until` everything goes back.
        """
        while self._works:
            self._insist_on_threads()
            if self._tools.stop.is_set():
                self._give_back(self._unbegun())
            if until is not None and until.expired:
                self._give_back(list(self._works.values()))
                break
            with self._changed:
                self._changed.wait_for(lambda: not self._works, _LOOK_SECONDS)
        return self._verdict

    def _insist_on_threads(self) -> None:
        """A fault of ours shall end the worker, which gives back what it holds, and not leave it waiting."""
        if not (self.hand.is_alive and self._reports.is_alive):
            raise RuntimeError("a thread of this worker has died; its traceback is on stderr")

    # -- a task's way ----------------------------------------------------------------------------------------

    def _begin(self, task: Task) -> None:
        with self._changed:
            known = self._works.get(task.id)
            if known is not None:
                # Lost and claimed again while it is worked on: the result will be of this attempt.
                known.task = task
                return
            if not self._undone():
                self._worked_until = self._tools.clock.monotonic()
            work = self._works[task.id] = _Work(task, items_of(task))
        try:
            future = self._performed(work)
        except Exception as error:  # noqa: BLE001  # the boundary of foreign code: whatever it raises is the task's
            self._failed(work, error)
            return
        if future is None:
            return
        work.future = future
        future.add_done_callback(lambda ended: self._ended(work, ended))

    def _performed(self, work: _Work) -> Future[dict[str, Any]] | None:
        """The result to come; None when the worker is to stop before the performer has room for it."""
        while not self._tools.stop.is_set():
            try:
                return self._performer(work.task, lambda: self.hand.holds(work.task.id))
            except Unavailable as busy:
                self.wait(min(busy.retry_after, _LONGEST_WAIT_FOR_ROOM))
        return None

    def _ended(self, work: _Work, future: Future[dict[str, Any]]) -> None:
        """Called by whoever has done the work, so it does not take long."""
        if future.cancelled():
            if not work.is_going_back:
                self._note(work.task.id, Verdict(lost=1))
            return
        error = future.exception()
        if isinstance(error, Exception) and not isinstance(error, CancelledError):
            self._failed(work, error)
        elif error is not None or self.hand.was_cancelled(work.task.id):
            # Nobody wants it, or it was an order to exit: no failure of the task.
            self._note(work.task.id, Verdict(lost=1))
        else:
            self._done(work, future.result())

    def _done(self, work: _Work, result: dict[str, Any]) -> None:
        with self._changed:
            work.is_done, self._fails, now = True, False, self._tools.clock.monotonic()
            self.pace.worked(now - self._worked_until, work.items)
            self._worked_until = now
        task, said = work.task, {"id", "attempt", "status", "result"}
        self._reports.add(
            Outcome.model_construct(
                said, id=task.id, attempt=task.attempt or None, status="completed", result=result
            )
        )

    def _failed(self, work: _Work, error: Exception) -> None:
        # The texts of EngineError are ours; foreign code may quote the payload in those of its own.
        why = error if isinstance(error, EngineError) else type(error).__name__
        log.warning("task %s: attempt %d failed: %s", work.task.id, work.task.attempt, why)
        work.is_done = self._fails = True
        if isinstance(error, MemoryError | OutOfMemory):
            self.pace.halve()
        self._reports.add(failure(work.task.id, work.task.attempt, error))

    def _told(self, outcome: Outcome, verdict: Verdict) -> None:
        if verdict.done:
            self.pace.done()
        self._note(outcome.id, verdict)

    def _note(self, task_id: UUID, verdict: Verdict) -> None:
        """The task's way ends here, if it was not given back before."""
        with self._changed:
            if self._works.pop(task_id, None) is not None:
                self._verdict += verdict
            self._changed.notify_all()
        self.hand.drop(task_id)

    # -- what does not come to its end -----------------------------------------------------------------------

    def _gone(self, lost: Sequence[UUID], cancelled: Sequence[UUID]) -> None:
        """Called by the heartbeat: what has not begun is not begun any more."""
        if lost:
            self.pace.halve()
        for task_id in (*lost, *cancelled):
            work = self._works.get(task_id)
            if work is not None and work.future is not None:
                work.future.cancel()

    def _unbegun(self) -> list[_Work]:
        """What could still be taken back from the performer, and was."""
        return [work for work in list(self._works.values()) if _is_taken_back(work)]

    def _give_back(self, works: list[_Work]) -> None:
        ours = [work.task for work in works if self.hand.holds(work.task.id)]
        with self._changed:
            for work in works:
                work.is_going_back = True
                self._works.pop(work.task.id, None)
        given: list[UUID] = []
        try:
            if ours:
                held = [Held(id=task.id, attempt=task.attempt) for task in ours]
                given = self._source.release(self._holder, held)
        except GiftyComputeError as error:
            log.warning("%d tasks not released, their leases will run out: %s", len(ours), error)
        for work in works:
            self.hand.drop(work.task.id)
        with self._changed:
            self._verdict += Verdict(released=len(given), lost=len(works) - len(given))
            self._changed.notify_all()

    def _disown(self) -> None:
        try:
            self.hand.disown()
        except GiftyComputeError as error:
            log.warning("what an unread answer may have brought is left to its lease: %s", error)

    def _undone(self) -> list[_Work]:
        return [work for work in self._works.values() if not work.is_done]


def _is_taken_back(work: _Work) -> bool:
    work.is_going_back = not work.is_done
    if work.future is not None:
        work.is_going_back = work.future.cancel()
    return work.is_going_back
