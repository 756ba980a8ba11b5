"""The client for programs that await: over httpx, which the extra [async] installs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

from gifty_compute.client import calls, reading
from gifty_compute.client.answers import Chat, ChatPiece, Classification, Embeddings, Ranking, Score
from gifty_compute.client.batches import AsyncBatches
from gifty_compute.client.calls import ApiCall, Categories, Messages
from gifty_compute.client.door import Door
from gifty_compute.client.events import ChatEvents
from gifty_compute.client.handles import AsyncTaskHandle
from gifty_compute.client.low import Low
from gifty_compute.client.mapping import Job, map_texts_async
from gifty_compute.client.over_httpx import AsyncStream, OverHttpx
from gifty_compute.client.plans import Plan, Plans, Send, follow_async
from gifty_compute.client.tasks import AsyncTasks
from gifty_compute.clock import Clock, SystemClock
from gifty_compute.wire.task import TaskView

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """`Client` with `await`: the same calls, the same answers, the same errors; for one event loop.

    `await client.low.embeddings(texts)` gives a handle whose methods are awaited; `client.map`,
    `client.tasks.list` and `client.stream_chat` are read with `async for`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 75.0,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """As of `Client`; proxies and certificates are taken from the environment, as httpx does."""
        self._door, clock = Door(base_url, token), clock or SystemClock()
        self._http = OverHttpx(self._door, clock)
        self.plans = Plans(timeout, clock, rng or Random())  # noqa: S311 - of pauses, not of secrets
        self.tasks = AsyncTasks(self, self._handle)
        self.low = Low(self._handle)
        self.batches = AsyncBatches(self)

    async def embeddings(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """One vector a text, in order; input_type is query or passage.

        More texts than one call should hold are sent in several, one after the other; `timeout` is for all
        of them together. Raises MixedSpaces where the configured model changes between two.
        """
        portions = calls.embeddings_in_portions(texts, model=model, input_type=input_type, timeout=timeout)
        return await self.follow(self.plans.in_order(portions, timeout, reading.joined_embeddings))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_n: int | None = None,
        timeout: float | None = None,
    ) -> Ranking:
        """A score for each document, and the documents best first."""
        return await self.run(calls.rerank(query, documents, model=model, top_n=top_n, timeout=timeout))

    async def classify(
        self,
        external_names: Sequence[str],
        internal_categories: Categories | None = None,
        *,
        timeout: float | None = None,
    ) -> Classification:
        """Gifty's category for each name; without categories the configured tree is used.

        More than a thousand names are sent in several calls, as texts of `embeddings` are.
        """
        portions = calls.classify_in_portions(external_names, internal_categories, timeout=timeout)
        return await self.follow(self.plans.in_order(portions, timeout, reading.joined_classification))

    async def score(
        self, product: Mapping[str, Any], *, axes: bool = False, timeout: float | None = None
    ) -> Score:
        """How good a gift a product is; `title` is required, the rest of the contract's fields are not."""
        return await self.run(calls.score(product, axes=axes, timeout=timeout))

    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        json_mode: bool = False,
        timeout: float | None = None,
    ) -> Chat:
        """A language model's answer; model is fast, smart or PROVIDER/MODEL."""
        call = calls.chat(
            messages,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=json_mode,
            stream=False,
            timeout=timeout,
        )
        return await self.run(call)

    def stream_chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] | None = None,
        json_mode: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ChatPiece, None]:
        """The same, piece by piece, for `async for`.

        Who leaves the loop early ends the answer at its source, too: at once with `contextlib.aclosing`.
        """
        call = calls.chat(
            messages,
            model=model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stop,
            json_mode=json_mode,
            stream=True,
            timeout=timeout,
        )
        return self._stream(call)

    def map(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str | None = None,
        input_type: str | None = None,
        run_id: str | None = None,
        tokens_a_task: int = 4000,
        tasks_ahead: int = 64,
        progress: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """As `Client.map`, for `async for`; the texts may be awaited, too."""
        job = Job(
            texts,
            model=model,
            input_type=input_type,
            run_id=run_id,
            tokens_a_task=tokens_a_task,
            tasks_ahead=tasks_ahead,
            progress=progress,
        )
        return map_texts_async(job, texts, self._resumed)

    async def run(self, call: ApiCall[T]) -> T:
        """Makes a call. Raises ApiError, Unreachable."""
        return await self.follow(self.plans.trying(call))

    async def follow(self, plan: Plan[T]) -> T:
        """Does what a plan says."""
        return await follow_async(plan, self.once, asyncio.sleep)

    async def once(self, step: Send[T]) -> T:
        """One try of a call. Raises ApiError, Unreachable."""
        return await self._http.once(step)

    async def open(self, plan: Plan[Any]) -> AsyncStream:
        """What a plan says, up to an answer whose headers are there. Raises ApiError, Unreachable."""
        return await follow_async(plan, self._http.begin, asyncio.sleep)

    async def _handle(self, call: ApiCall[TaskView]) -> AsyncTaskHandle:
        return AsyncTaskHandle(self, await self.run(call))

    async def _resumed(self, call: ApiCall[TaskView]) -> AsyncTaskHandle:
        return AsyncTaskHandle(self, await self.follow(self.plans.resuming(call)))

    async def _stream(self, call: ApiCall[Any]) -> AsyncGenerator[ChatPiece, None]:
        events = ChatEvents()
        async with await self.open(self.plans.trying(call)) as stream:
            async for data in stream:
                seen = events.lines
                for piece in events.feed(data):
                    yield piece
                if events.lines > seen:
                    stream.progress()
                if events.ended:
                    return
        raise self._door.lost(call)

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
