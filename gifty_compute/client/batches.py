"""Batches: many tasks handed over in one call, for a handle to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Unpack

from gifty_compute.client import batch_calls
from gifty_compute.client.batch_calls import Whole
from gifty_compute.client.batch_handles import AsyncBatchHandle, AsyncReader, BatchHandle, Reader
from gifty_compute.client.lines import Lines, Packed

__all__ = ["AsyncBatches", "Batches"]

Line = Mapping[str, Any]
# The loop has other work to do, too.
_LINES_AT_ONCE = 1000


class Batches:
    """`line` makes lines, `submit` hands them over, `get` finds a batch again by its id."""

    def __init__(self, doer: Reader) -> None:
        self._doer = doer
        self.line = Lines()

    def submit(self, lines: Iterable[Line], **whole: Unpack[Whole]) -> BatchHandle:
        """Hands over up to 100,000 lines, each a mapping as `line` makes it: all are accepted, or none.

        They are packed first, in a file where they are many, so that any number needs little memory.
        Raises Refused naming the line that breaks a rule, and InConflict where the key came with other lines.
        """
        with Packed() as packed:
            for line in lines:
                packed.add(line)
            call = batch_calls.submit(packed.seal(), **whole)
            return BatchHandle(self._doer, self._doer.follow(self._doer.plans.trying(call)))

    def get(self, batch_id: str) -> BatchHandle:
        """A handle to the batch as it is now. Raises NotThere."""
        batch = self._doer.follow(self._doer.plans.trying(batch_calls.batch(batch_id)))
        return BatchHandle(self._doer, batch)


class AsyncBatches:
    """`Batches` with `await`; the lines may be awaited, too."""

    def __init__(self, doer: AsyncReader) -> None:
        self._doer = doer
        self.line = Lines()

    async def submit(
        self, lines: Iterable[Line] | AsyncIterable[Line], **whole: Unpack[Whole]
    ) -> AsyncBatchHandle:
        with Packed() as packed:
            async for line in _awaited(lines):
                packed.add(line)
            call = batch_calls.submit(packed.seal(), **whole)
            return AsyncBatchHandle(self._doer, await self._doer.follow(self._doer.plans.trying(call)))

    async def get(self, batch_id: str) -> AsyncBatchHandle:
        batch = await self._doer.follow(self._doer.plans.trying(batch_calls.batch(batch_id)))
        return AsyncBatchHandle(self._doer, batch)


async def _awaited(lines: Iterable[Line] | AsyncIterable[Line]) -> AsyncIterator[Line]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
        return
    for number, line in enumerate(lines):
        if not number % _LINES_AT_ONCE:
            await asyncio.sleep(0)
        yield line
