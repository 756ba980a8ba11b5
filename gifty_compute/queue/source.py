"""SqlSource: a worker's four verbs over SQL, for workers inside the service's network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from uuid import UUID

from gifty_compute.errors import GiftyComputeError, NotFound, Unavailable
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.wire.task import Claimed, Extension, Held, Holder, Outcome, ReleaseReason, Task, Want

__all__ = ["SqlSource"]

# Twice what a worker has in hand.
_MOST_REMEMBERED = 1000


class SqlSource:
    """Fits TaskSource over the stores; may be shared by threads.

    What it has handed out it remembers until that is over: a result is judged by its task, which need not
    be read a second time.
    """

    def __init__(self, leases: LeaseStore, tasks: TaskStore) -> None:
        self._leases, self._tasks = leases, tasks
        self._handed: OrderedDict[UUID, Task] = OrderedDict()

    def claim(self, holder: Holder, want: Want) -> Claimed:
        claimed = self._leases.claim(holder, want)
        self._handed.update((task.id, task) for task in claimed.tasks)
        while len(self._handed) > _MOST_REMEMBERED:
            self._handed.popitem(last=False)
        return claimed

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        extension = self._leases.extend(holder, held, exhaustive=exhaustive)
        self._forget((*extension.lost, *extension.cancelled))
        return extension

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        """The completed ones in one statement, then each that failed. The ids must differ."""
        tasks = self._known([one.id for one in outcomes])
        named = {one.id: tasks[one.id].under(one.attempt or 0) for one in outcomes if one.id in tasks}
        done = [one for one in outcomes if one.status == "completed" and one.id in named]
        taken = self._leases.complete_many(holder, [(named[one.id], one.result or {}) for one in done])
        answers = {one.id: error for one, error in zip(done, taken, strict=True)}
        for one in outcomes:
            if one.id not in named:
                answers[one.id] = NotFound(f"there is no task {one.id}")
            elif one.status == "failed":
                answers[one.id] = self._failed(holder, named[one.id], one)
        self._forget(named)
        return [answers[one.id] for one in outcomes]

    def release(self, holder: Holder, held: list[Held], reason: ReleaseReason = "drain") -> list[UUID]:
        released = self._leases.release(holder, held, reason)
        self._forget(one.id for one in held)
        return released

    def _known(self, ids: list[UUID]) -> dict[UUID, Task]:
        known = {task_id: task for task_id in ids if (task := self._handed.get(task_id)) is not None}
        strange = [task_id for task_id in ids if task_id not in known]
        return known | self._tasks.find(strange) if strange else known

    def _forget(self, ids: Iterable[UUID]) -> None:
        for task_id in ids:
            self._handed.pop(task_id, None)

    def _failed(self, holder: Holder, task: Task, outcome: Outcome) -> GiftyComputeError | None:
        try:
            self._leases.fail(holder, task, str(outcome.error), retryable=outcome.retryable)
        except Unavailable:
            raise  # All is to be told again; what was taken by now is taken alike then.
        except GiftyComputeError as error:
            return error
        return None
