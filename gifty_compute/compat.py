"""What Gifty's backend imports today, by the same names and with the same signatures, over the SDK.

The calls are awaitable; each runs the blocking client in a thread of our own, so that no further library is
needed and calls do not queue for the few threads of the event loop's pool.
What differs: a failure raises (zeros came back before), and low priority gives back a handle, to be awaited.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from gifty_compute.client import calls
from gifty_compute.client.answers import Chat, Mapped
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.door import CONNECTIONS
from gifty_compute.client.errors import ApiError
from gifty_compute.client.handles import AsyncTaskHandle
from gifty_compute.client.low import Low
from gifty_compute.client.plans import Plan, Plans, Send, follow_async
from gifty_compute.client.sync import Client
from gifty_compute.wire.task import TaskView
from gifty_compute.wire.text import is_blank

__all__ = [
    "IntelligenceAPIClient",
    "LLMClient",
    "LLMFactory",
    "LLMResponse",
    "Message",
    "alembic_include_object",
    "get_intelligence_client",
]


T = TypeVar("T")
# Positions in a note.
_MOST_NAMED = 20


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class LLMResponse(BaseModel):
    """A language model's answer; `usage` has input_tokens, output_tokens, total_tokens and OpenAI's names."""

    content: str
    raw_response: Any = None
    usage: dict[str, int] = Field(default_factory=dict)
    provider_request_id: str | None = None
    finish_reason: str | None = None


class IntelligenceAPIClient:
    """Embeddings, reranking, classification and scoring; `db` is accepted and not used."""

    def __init__(self, client: Client | None = None) -> None:
        """Without a client, by the one of this process."""
        self._client = client or _process.client()
        self._low = Low(_InThreads(self._client).submit)

    async def get_embeddings(
        self, texts: list[str], priority: str = "high", db: Any = None
    ) -> list[list[float] | None] | AsyncTaskHandle:
        """One vector a text, None in place of an empty text's; with priority low the handle of the task.

        Raises when no provider could answer; of low priority also where a text is empty.
        """
        del db
        if _is_low(priority):
            return await self._low.embeddings(texts)
        filled = _Filled.of(texts)
        if not filled.texts:
            return filled.spread([])
        with filled.counted():
            answer = await _in_thread(self._client.embeddings, filled.texts)
        return filled.spread([[float(number) for number in vector] for vector in answer.vectors])

    async def rerank(
        self, query: str, documents: list[str], priority: str = "high", db: Any = None
    ) -> list[float | None] | AsyncTaskHandle:
        """A score for each document, in their order; None for an empty document, and for all to an empty
        query."""
        del db
        if _is_low(priority):
            return await self._low.rerank(query, documents)
        filled = _Filled.of(documents)
        if not filled.texts or is_blank(query):
            return [None] * len(documents)
        with filled.counted():
            answer = await _in_thread(self._client.rerank, query, filled.texts)
        return filled.spread(answer.scores)

    async def classify_categories(
        self,
        external_names: list[str],
        internal_categories: Sequence[dict[str, Any]] | None = None,
        priority: str = "high",
        db: Any = None,
    ) -> list[dict[str, Any]] | AsyncTaskHandle:
        """One `{"external_name", "internal_category_id", "confidence"}` a name; the id may be None, and is
        for an empty name."""
        del db
        if _is_low(priority):
            return await self._low.classify(external_names, internal_categories)
        filled = _Filled.of(external_names)
        rows: list[Mapped] = []
        if filled.texts:
            with filled.counted():
                answer = await _in_thread(self._client.classify, filled.texts, internal_categories)
            rows = answer.mappings
        return [
            {
                "external_name": name,
                "internal_category_id": row.internal_category_id if row is not None else None,
                "confidence": row.confidence if row is not None else None,
            }
            for name, row in zip(external_names, filled.spread(rows), strict=True)
        ]

    async def score_product(
        self,
        title: str,
        description: str | None = None,
        price: float | None = None,
        category: str | None = None,
        priority: str = "high",
        db: Any = None,
    ) -> dict[str, Any] | AsyncTaskHandle:
        """`{"gift_score", "reasoning", "tags"}` of a product; the score is from 0 to 10."""
        del db
        fields = {"title": title, "description": description, "price": price, "category": category}
        product = {name: value for name, value in fields.items() if value is not None}
        if _is_low(priority):
            return await self._low.score([product])
        answer = await _in_thread(self._client.score, product)
        return {"gift_score": answer.gift_score, "reasoning": answer.reasoning, "tags": answer.tags}


@dataclass(frozen=True)
class _Filled:
    """The texts of a list that are not empty, and where each of them stood."""

    texts: list[str]
    places: list[int]
    count: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Filled:
        """Raises TypeError for one text in place of a list."""
        listed: list[Any] = calls.listed(texts, "texts")
        # A value that is no text is sent as it is: the service names what is wrong with it.
        places = [n for n, text in enumerate(listed) if not (isinstance(text, str) and is_blank(text))]
        return cls([listed[place] for place in places], places, len(listed))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Gives an error of the service a note where the positions in it are not those of the whole list."""
        try:
            yield
        except ApiError as error:
            left_out = sorted(set(range(self.count)).difference(self.places))
            if left_out:
                named = ", ".join(map(str, left_out[:_MOST_NAMED])) + (", …" * (len(left_out) > _MOST_NAMED))
                error.add_note(f"its positions are counted without the empty texts at {named}")
            raise

    def spread(self, answers: Sequence[T]) -> list[T | None]:
        """The answers where their texts stood, None in place of the empty ones."""
        found = dict(zip(self.places, answers, strict=True))
        return [found.get(place) for place in range(self.count)]


class LLMClient:
    """A language model behind the service, for all providers alike."""

    def __init__(self, provider: str | None = None, client: Client | None = None) -> None:
        """`provider` asks that one alone; without it logic.yaml decides."""
        self._provider, self._client = provider, client or _process.client()

    async def generate_text(
        self,
        messages: list[Message],
        model: str,
        system_prompt: str | None = None,
        max_tokens: int = 1000,
        temperature: float = 0.7,
        stops: list[str] | None = None,
        json_mode: bool = False,
    ) -> LLMResponse:
        """`model` is fast, smart, one of the ids that llm.model_fast and llm.model_smart name, or an id of
        the provider's own."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if system_prompt:
            turns.insert(0, {"role": "system", "content": system_prompt})
        answer = await _in_thread(
            self._client.chat,
            turns,
            model=f"{self._provider}/{model}" if self._provider else model,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=stops,
            json_mode=json_mode,
        )
        return _response(answer)


class LLMFactory:
    """Where Gifty's backend gets its clients of language models."""

    @staticmethod
    def get_client(provider: str | None = None) -> LLMClient:
        return LLMClient(provider)


def get_intelligence_client() -> IntelligenceAPIClient:
    """The one client of this process."""
    return _process.intelligence()


def alembic_include_object(
    _object: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool:
    """For `include_object` in the backend's `alembic/env.py`: leaves the service's tables to the service.

    `compute_tasks` is the service's once it is there, with all its columns and indexes; so are the tables
    whose names begin as the service's do, unless the backend has a model of that name.
    """
    if kind != "table" or name is None:
        return True
    is_unknown_there = reflected and compare_to is None
    if name == "compute_tasks":
        return not reflected and compare_to is None
    return not (is_unknown_there and name.startswith(("compute_", "gifty_compute_")))


class _Process:
    """What this process has one of. A child after a fork gets its own: threads do not come along."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._intelligence: IntelligenceAPIClient | None = None
        # As many calls as the client has connections for; threads begin as they are needed. Who waits for a
        # task holds a thread for long, and must not take it from a call that somebody waits for.
        self.calls = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="gifty-compute")
        self.waits = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="gifty-compute-wait")

    def client(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client()
            return self._client

    def intelligence(self) -> IntelligenceAPIClient:
        client = self.client()
        with self._lock:
            if self._intelligence is None:
                self._intelligence = IntelligenceAPIClient(client)
            return self._intelligence


class _InThreads:
    """Carries out plans with each call in a thread, and the pauses in none."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def plans(self) -> Plans:
        return self._client.plans

    async def follow(self, plan: Plan[T]) -> T:
        return await follow_async(plan, self._once, asyncio.sleep)

    async def submit(self, call: ApiCall[TaskView]) -> AsyncTaskHandle:
        return AsyncTaskHandle(self, await self.follow(self.plans.trying(call)))

    async def _once(self, step: Send[Any]) -> Any:
        pool = _process.waits if "wait" in step.call.query else _process.calls
        return await asyncio.get_running_loop().run_in_executor(pool, self._client.once, step)


def _begin_anew() -> None:
    global _process
    _process = _Process()


_process = _Process()
if hasattr(os, "register_at_fork"):  # Windows, which does not fork, has none
    os.register_at_fork(after_in_child=_begin_anew)


async def _in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_process.calls, partial(function, *arguments, **named))


def _is_low(priority: str) -> bool:
    if priority not in ("high", "low"):
        raise ValueError("priority is high or low")
    return priority == "low"


def _response(answer: Chat) -> LLMResponse:
    usage: dict[str, int] = {}
    if answer.tokens is not None:
        read, written = answer.tokens.input, answer.tokens.output
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
        }
    return LLMResponse(
        content=answer.content,
        raw_response=answer,
        usage=usage,
        provider_request_id=answer.id,
        finish_reason=answer.finish_reason,
    )
