"""AsyncClient as a program without `await` would see it, so that one suite tests both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from gifty_compute.client.asynchronous import AsyncClient
from gifty_compute.client.batch_handles import AsyncBatchHandle
from gifty_compute.client.batches import AsyncBatches
from gifty_compute.client.handles import AsyncTaskHandle
from gifty_compute.client.low import Low
from gifty_compute.client.tasks import AsyncTasks


class Blocking:
    """Has the names of what it holds; what comes out of them is awaited."""

    def __init__(self, runner: asyncio.Runner, held: Any) -> None:
        self._runner, self._held = runner, held

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._held, name)
        if not inspect.ismethod(found):
            return _plain(self._runner, found)
        return lambda *positional, **named: _plain(self._runner, found(*positional, **named))

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Steps:
    """An asynchronous generator, step by step."""

    def __init__(self, runner: asyncio.Runner, steps: AsyncGenerator[Any, None]) -> None:
        self._runner, self._steps = runner, steps

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return _plain(self._runner, anext(self._steps))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._runner.run(self._steps.aclose())


def _plain(runner: asyncio.Runner, value: Any) -> Any:
    if inspect.isasyncgen(value):
        return _Steps(runner, value)
    if inspect.isawaitable(value):

        async def go() -> Any:
            return await value

        value = runner.run(go())
    if isinstance(value, AsyncClient | AsyncTaskHandle | AsyncTasks | AsyncBatches | AsyncBatchHandle | Low):
        return Blocking(runner, value)
    return value
