"""Tasks by their ids, and lists of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypedDict, TypeVar, Unpack

from gifty_compute.client import calls
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.handles import AsyncDoer, AsyncTaskHandle, Doer, TaskHandle
from gifty_compute.wire.task import Status, TaskView

__all__ = ["AsyncTasks", "Tasks", "Where"]

H = TypeVar("H")


class Where(TypedDict, total=False):
    """Which tasks are listed."""

    status: Status | None
    task_type: str | None
    batch_id: str | None


class _ById(Generic[H]):
    """What is done to one task. `send` makes a handle of a call, or something to await for one."""

    def __init__(self, send: Callable[[ApiCall[TaskView]], H]) -> None:
        self._send = send

    def get(self, task_id: str) -> H:
        """A handle to the task as it is now. Raises NotThere."""
        return self._send(calls.task(task_id))

    def cancel(self, task_id: str) -> H:
        """Nobody shall do it any more; twice is as good as once. Raises InConflict where it has ended."""
        return self._send(calls.cancel(task_id))

    def retry(self, task_id: str) -> H:
        """It is pending once more, as if it were new. Raises InConflict unless it was failed or cancelled."""
        return self._send(calls.retry(task_id))


class Tasks(_ById[TaskHandle]):
    """What became of tasks."""

    def __init__(self, doer: Doer, send: Callable[[ApiCall[TaskView]], TaskHandle]) -> None:
        super().__init__(send)
        self._doer = doer

    def wait(self, task_id: str, seconds: float = 60.0) -> TaskHandle:
        """The handle, as soon as the task has ended or so many seconds have passed."""
        handle = self.get(task_id)
        handle.wait(seconds)
        return handle

    def list(self, **where: Unpack[Where]) -> Iterator[TaskHandle]:
        """All of them, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self._doer.follow(self._doer.plans.trying(calls.tasks(**where, cursor=cursor)))
            yield from (TaskHandle(self._doer, task) for task in page.tasks)
            cursor = page.next_cursor
            if cursor is None:
                return


class AsyncTasks(_ById[Awaitable[AsyncTaskHandle]]):
    """`Tasks` with `await` and `async for`."""

    def __init__(
        self, doer: AsyncDoer, send: Callable[[ApiCall[TaskView]], Awaitable[AsyncTaskHandle]]
    ) -> None:
        super().__init__(send)
        self._doer = doer

    async def wait(self, task_id: str, seconds: float = 60.0) -> AsyncTaskHandle:
        handle = await self.get(task_id)
        await handle.wait(seconds)
        return handle

    async def list(self, **where: Unpack[Where]) -> AsyncIterator[AsyncTaskHandle]:
        cursor: str | None = None
        while True:
            page = await self._doer.follow(self._doer.plans.trying(calls.tasks(**where, cursor=cursor)))
            for task in page.tasks:
                yield AsyncTaskHandle(self._doer, task)
            cursor = page.next_cursor
            if cursor is None:
                return
