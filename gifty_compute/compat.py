"""What Gifty's backend imports today, by the same names and with the same signatures, over the SDK.

The calls are awaitable; each runs the waiting client in a thread of its own pool, so that no further library
is needed and calls do not queue for the few threads of the event loop's pool.
What differs: a failure raises (zeros came back before), and low priority gives back a handle.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from gifty_compute.client.answers import Chat
from gifty_compute.client.low import TaskHandle
from gifty_compute.client.sync import Client

__all__ = [
    "IntelligenceAPIClient",
    "LLMClient",
    "LLMFactory",
    "LLMResponse",
    "Message",
    "get_intelligence_client",
]


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
        self._client = client or Client()

    async def get_embeddings(
        self, texts: list[str], priority: str = "high", db: Any = None
    ) -> list[list[float]] | TaskHandle:
        """One vector a text; with priority low the handle of the task. Raises when nobody could answer."""
        del db
        if _is_low(priority):
            return await _in_thread(self._client.low.embeddings, texts)
        answer = await _in_thread(self._client.embeddings, texts)
        vectors: list[list[float]] = [[float(number) for number in vector] for vector in answer.vectors]
        return vectors

    async def rerank(
        self, query: str, documents: list[str], priority: str = "high", db: Any = None
    ) -> list[float] | TaskHandle:
        """A score for each document, in their order."""
        del db
        if _is_low(priority):
            return await _in_thread(self._client.low.rerank, query, documents)
        return (await _in_thread(self._client.rerank, query, documents)).scores

    async def classify_categories(
        self,
        external_names: list[str],
        internal_categories: Sequence[dict[str, Any]] | None = None,
        priority: str = "high",
        db: Any = None,
    ) -> list[dict[str, Any]] | TaskHandle:
        """One `{"external_name", "internal_category_id", "confidence"}` a name; the id may be None."""
        del db
        if _is_low(priority):
            return await _in_thread(self._client.low.classify, external_names, internal_categories)
        answer = await _in_thread(self._client.classify, external_names, internal_categories)
        return [
            {
                "external_name": row.external_name,
                "internal_category_id": row.internal_category_id,
                "confidence": row.confidence,
            }
            for row in answer.mappings
        ]

    async def score_product(
        self,
        title: str,
        description: str | None = None,
        price: float | None = None,
        category: str | None = None,
        priority: str = "high",
        db: Any = None,
    ) -> dict[str, Any] | TaskHandle:
        """`{"gift_score", "reasoning", "tags"}` of a product; the score is from 0 to 10."""
        del db
        fields = {"title": title, "description": description, "price": price, "category": category}
        product = {name: value for name, value in fields.items() if value is not None}
        if _is_low(priority):
            return await _in_thread(self._client.low.score, [product])
        answer = await _in_thread(self._client.score, product)
        return {"gift_score": answer.gift_score, "reasoning": answer.reasoning, "tags": answer.tags}


class LLMClient:
    """A language model behind the service, for all providers alike."""

    def __init__(self, provider: str | None = None, client: Client | None = None) -> None:
        """`provider` asks that one alone; without it logic.yaml decides."""
        self._provider, self._client = provider, client or Client()

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
    global _client
    with _lock:
        if _client is None:
            _client = IntelligenceAPIClient()
        return _client


_client: IntelligenceAPIClient | None = None
_lock = threading.Lock()
# As many calls as the client has connections for; threads begin as they are needed.
_threads = ThreadPoolExecutor(64, thread_name_prefix="gifty-compute")
T = TypeVar("T")


async def _in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, partial(function, *arguments, **named))


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
