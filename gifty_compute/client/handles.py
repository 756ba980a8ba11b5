"""Handles to tasks that were accepted: to wait for their ends and results, to cancel and to retry them."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from gifty_compute.client import calls
from gifty_compute.client.errors import TaskFailed
from gifty_compute.client.plans import Plan, Plans
from gifty_compute.client.reading import result_of
from gifty_compute.wire.task import ENDS, TaskView

__all__ = ["AsyncDoer", "AsyncTaskHandle", "Doer", "TaskHandle"]

T = TypeVar("T")
_A_MINUTE = 60.0


class Doer(Protocol):
    """Who carries out plans, blocking."""

    @property
    def plans(self) -> Plans: ...

    def follow(self, plan: Plan[T]) -> T: ...


class AsyncDoer(Protocol):
    """Who carries out plans, awaiting."""

    @property
    def plans(self) -> Plans: ...

    def follow(self, plan: Plan[T]) -> Awaitable[T]: ...


class _Seen:
    """A task as it was last seen."""

    def __init__(self, task: TaskView) -> None:
        self._task = task

    @property
    def id(self) -> str:
        return str(self._task.id)

    @property
    def task(self) -> TaskView:
        """The task as it was last seen."""
        return self._task

    def done(self) -> bool:
        """Whether it had ended when it was last seen; `wait(0)` looks."""
        return self._task.status in ENDS

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._task.task_type} {self._task.status}>"

    def _value(self, timeout: float | None) -> Any:
        if not self.done():
            why = f": {self._task.waiting_for}" if self._task.waiting_for else ""
            raise TimeoutError(f"task {self.id} has not ended in {timeout:g} s{why}")
        if self._task.status != "completed":
            why = f": {self._task.error}" if self._task.error else ""
            message = f"task {self.id} was {self._task.status}{why}"
            raise TaskFailed(message, task_id=self.id, status=self._task.status)
        return result_of(self._task)


class TaskHandle(_Seen):
    """A task that was accepted: it will be done, whatever happens to this program."""

    def __init__(self, doer: Doer, task: TaskView) -> None:
        super().__init__(task)
        self._doer = doer

    def wait(self, seconds: float = _A_MINUTE) -> bool:
        """Waits for the end, at most so long; whether it has come. An outage of the service is sat out.

        Raises ApiError, Unreachable.
        """
        self._task = self._doer.follow(self._doer.plans.waiting(self._task, seconds))
        return self.done()

    def result(self, timeout: float | None = None) -> Any:
        """The result, as the high-priority call would give it (of `score` a list, one a product).

        Raises TaskFailed where the task ended without one, TimeoutError where it has not ended in time.
        """
        self.wait(math.inf if timeout is None else timeout)
        return self._value(timeout)

    def cancel(self) -> None:
        """Nobody shall do it any more; twice is as good as once. Raises InConflict where it has ended."""
        self._task = self._doer.follow(self._doer.plans.trying(calls.cancel(self.id)))

    def retry(self) -> None:
        """It is pending once more, as if it were new. Raises InConflict unless it was failed or cancelled."""
        self._task = self._doer.follow(self._doer.plans.trying(calls.retry(self.id)))


class AsyncTaskHandle(_Seen):
    """`TaskHandle` with `await`."""

    def __init__(self, doer: AsyncDoer, task: TaskView) -> None:
        super().__init__(task)
        self._doer = doer

    async def wait(self, seconds: float = _A_MINUTE) -> bool:
        self._task = await self._doer.follow(self._doer.plans.waiting(self._task, seconds))
        return self.done()

    async def result(self, timeout: float | None = None) -> Any:
        await self.wait(math.inf if timeout is None else timeout)
        return self._value(timeout)

    async def cancel(self) -> None:
        self._task = await self._doer.follow(self._doer.plans.trying(calls.cancel(self.id)))

    async def retry(self) -> None:
        self._task = await self._doer.follow(self._doer.plans.trying(calls.retry(self.id)))
