"""Providers that speak OpenAI's form: OpenRouter, Together, Groq, and any server compatible with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import orjson

from gifty_compute.errors import ProviderError
from gifty_compute.providers.base import Ask, Delta, Reply
from gifty_compute.providers.chat import (
    chat_piece,
    chat_reply,
    chat_request,
    cost_of,
    refuse_error,
    usage_of,
)
from gifty_compute.providers.completion import total, whole
from gifty_compute.providers.dialects import dialect_of
from gifty_compute.providers.exchange import Exchange, as_object
from gifty_compute.providers.failures import not_served
from gifty_compute.providers.foreign import dig
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import by_index, float_rows, portions
from gifty_compute.transport.base import HttpResponse, Transport

__all__ = ["OpenaiLikeProvider"]


class OpenaiLikeProvider:
    """Embeddings, reranking and chat; the dialect follows from the name of the offer's provider."""

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)

    def run(self, ask: Ask) -> Reply:
        match ask.offer.ask_as:
            case "embedding":
                return self._embed(ask)
            case "rerank":
                return self._rerank(ask)
            case "llm":
                body = self._post(ask, "/chat/completions", chat_request(ask, _dialect(ask)))
                return chat_reply(ask, body, _dialect(ask))
        raise not_served(ask)

    def stream(self, ask: Ask) -> Iterator[Delta]:
        return whole(self._pieces(ask))

    def _embed(self, ask: Ask) -> Reply:
        """All texts, in as many calls one after the other as the server's limit asks for."""
        answers = []
        rows: list[Any] = []
        for texts in portions(ask.texts, _dialect(ask).texts_per_call):
            body = self._post(ask, "/embeddings", {"model": ask.offer.model_id, "input": texts})
            rows += [row.get("embedding") for row in by_index(body.get("data"), len(texts))]
            answers.append(body)
        costs = [cost_of(ask, body) for body in answers]
        return Reply(
            {"embeddings": float_rows(rows)},
            total([usage_of(body) for body in answers]),
            None if None in costs else sum(cost for cost in costs if cost is not None),
        )

    def _rerank(self, ask: Ask) -> Reply:
        documents = ask.payload["documents"]
        request = {"model": ask.offer.model_id, "query": ask.payload["query"], "documents": documents}
        body = self._post(ask, "/rerank", request)
        scores = [row.get("relevance_score") for row in by_index(body.get("results"), len(documents))]
        return Reply({"scores": scores, "kind": "cross-encoder"}, usage_of(body), cost_of(ask, body))

    def _post(self, ask: Ask, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._exchange.send(ask, path, body, headers=_headers(ask))
        if response.status != 200:
            raise _error(ask, response)
        answer = as_object(response)
        refuse_error(answer, _dialect(ask))
        return answer
