"""Handles to batches that were accepted: to wait for the end, to read results, to cancel and to retry."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Generator, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from gifty_compute.client import batch_calls
from gifty_compute.client.errors import ApiError, Unreachable
from gifty_compute.client.handles import AsyncDoer, Doer
from gifty_compute.client.plans import Plan, Plans
from gifty_compute.client.results import LineResult, ResultLines
from gifty_compute.wire.batch import Batch

__all__ = ["AsyncBatchHandle", "AsyncReader", "BatchHandle", "Reader"]

_A_MINUTE = 60.0


class Reader(Doer, Protocol):
    """Who carries out plans, and reads what comes as a stream."""

    def open(self, plan: Plan[Any]) -> AbstractContextManager[Iterable[bytes]]: ...


class AsyncReader(AsyncDoer, Protocol):
    """The same, awaiting."""

    def open(self, plan: Plan[Any]) -> Awaitable[AbstractAsyncContextManager[AsyncIterable[bytes]]]: ...


class _Seen:
    """A batch as it was last seen."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @property
    def id(self) -> str:
        return str(self._batch.id)

    @property
    def batch(self) -> Batch:
        """The batch as it was last seen: its counts, rate, ETA, plan and cost."""
        return self._batch

    def done(self) -> bool:
        """Whether it had ended when it was last seen; `wait(0)` looks."""
        return self._batch.finished_at is not None

    def __repr__(self) -> str:
        ended = sum((self._batch.counts.completed, self._batch.counts.failed, self._batch.counts.cancelled))
        return f"<{type(self).__name__} {self.id} {ended} of {self._batch.total} ended>"

    def _waiting(self, plans: Plans, seconds: float) -> Plan[Batch]:
        return plans.looking(
            self._batch,
            lambda wait: batch_calls.batch(self.id, wait=wait),
            lambda seen: seen.finished_at is not None,
            seconds,
        )

    def _reading(self, plans: Plans, lines: ResultLines) -> Plan[Any]:
        return plans.patiently(batch_calls.results(self.id, first=lines.next))


class BatchHandle(_Seen):
    """A batch that was accepted: it will be done, whatever happens to this program."""

    def __init__(self, reader: Reader, batch: Batch) -> None:
        super().__init__(batch)
        self._reader = reader

    def wait(self, seconds: float = _A_MINUTE) -> bool:
        """Waits for the end, at most so long; whether it has come. An outage of the service is sat out.

        Raises ApiError, Unreachable.
        """
        self._batch = self._reader.follow(self._waiting(self._reader.plans, seconds))
        return self.done()

    def results(self, *, first: int = 0) -> Generator[LineResult, None, None]:
        """What became of each line, in order, from this position on; little of it is in memory at a time.

        The batch need not have ended: `status` says how each line stands. Where the connection breaks it is
        gone on with at the same place. Raises ApiError, Unreachable.
        """
        lines = ResultLines(first)
        while True:
            with self._reader.open(self._reading(self._reader.plans, lines)) as stream:
                lines.begin()
                try:
                    for data in stream:
                        yield from lines.feed(data)
                    lines.end()
                    return
                except (ApiError, Unreachable) as error:
                    if not lines.may_go_on(error):
                        raise

    def cancel(self) -> None:
        """Nobody shall do the rest; twice is as good as once. Raises InConflict where it has ended."""
        self._batch = self._reader.follow(self._reader.plans.trying(batch_calls.cancel(self.id)))

    def retry(self) -> None:
        """All that failed or was cancelled is pending once more. Raises InConflict where there is none."""
        self._batch = self._reader.follow(self._reader.plans.trying(batch_calls.retry(self.id)))


class AsyncBatchHandle(_Seen):
    """`BatchHandle` with `await`, and `async for`."""

    def __init__(self, reader: AsyncReader, batch: Batch) -> None:
        super().__init__(batch)
        self._reader = reader

    async def wait(self, seconds: float = _A_MINUTE) -> bool:
        self._batch = await self._reader.follow(self._waiting(self._reader.plans, seconds))
        return self.done()

    async def results(self, *, first: int = 0) -> AsyncGenerator[LineResult, None]:
        lines = ResultLines(first)
        while True:
            async with await self._reader.open(self._reading(self._reader.plans, lines)) as stream:
                lines.begin()
                try:
                    async for data in stream:
                        for result in lines.feed(data):
                            yield result
                    lines.end()
                    return
                except (ApiError, Unreachable) as error:
                    if not lines.may_go_on(error):
                        raise

    async def cancel(self) -> None:
        self._batch = await self._reader.follow(self._reader.plans.trying(batch_calls.cancel(self.id)))

    async def retry(self) -> None:
        self._batch = await self._reader.follow(self._reader.plans.trying(batch_calls.retry(self.id)))
