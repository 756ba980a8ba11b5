"""Providers that speak OpenAI's form: OpenRouter, Together, Groq, and any server compatible with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from gifty_compute.errors import ProviderError
from gifty_compute.providers.base import Ask, Delta, Reply, Usage
from gifty_compute.providers.chat import (
    chat_piece,
    chat_reply,
    chat_request,
    cost_of,
    refuse_error,
    usage_of,
)
from gifty_compute.providers.completion import metered, streamed
from gifty_compute.providers.dialects import Dialect, dialect_of
from gifty_compute.providers.exchange import Exchange, as_object, event_object
from gifty_compute.providers.failures import not_served
from gifty_compute.providers.rejection import Rejection
from gifty_compute.providers.rows import (
    by_index,
    float_rows,
    portions,
    reranker_kind,
    total_cost,
    total_usage,
)
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
                return self._chat(ask)
        raise not_served(ask)

    def stream(self, ask: Ask) -> Iterator[Delta]:
        dialect = _dialect(ask)
        request = {**chat_request(ask, dialect), "stream": True}
        if dialect.asks_for_usage:
            request["stream_options"] = {"include_usage": True}
        events = self._exchange.events(
            ask, "/chat/completions", request, headers=_headers(ask), judge=partial(_error, ask)
        )
        return streamed(ask, events, partial(_piece, ask, dialect))

    def _embed(self, ask: Ask) -> Reply:
        """All texts, in as many calls one after the other as the server's limit asks for."""
        rows: list[Any] = []
        usages: list[Usage | None] = []
        costs: list[float | None] = []
        told = {"input_type": _dialect(ask).input_type(ask.input_type)} if ask.input_type else {}
        for texts in portions(ask.texts, _dialect(ask).texts_per_call):
            request = {"model": ask.offer.model_id, "input": texts, **told}
            body = self._post(ask, "/embeddings", request)
            refuse_error(ask, body, _dialect(ask))
            rows += [row.get("embedding") for row in by_index(body.get("data"), len(texts))]
            usages.append(usage_of(body))
            costs.append(cost_of(ask, body))
        return Reply({"embeddings": float_rows(rows)}, total_usage(usages), total_cost(costs))

    def _rerank(self, ask: Ask) -> Reply:
        documents = ask.payload["documents"]
        request = {"model": ask.offer.model_id, "query": ask.payload["query"], "documents": documents}
        body = self._post(ask, "/rerank", request)
        refuse_error(ask, body, _dialect(ask))
        scores = [row.get("relevance_score") for row in by_index(body.get("results"), len(documents))]
        kind = reranker_kind(body, silent=_dialect(ask).reranker)
        return Reply({"scores": scores, "kind": kind}, usage_of(body), cost_of(ask, body))

    def _chat(self, ask: Ask) -> Reply:
        body = self._post(ask, "/chat/completions", chat_request(ask, _dialect(ask)))
        return chat_reply(ask, body, _dialect(ask))

    def _post(self, ask: Ask, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._exchange.send(ask, path, body, headers=_headers(ask))
        if response.status != 200:
            raise _error(ask, response)
        answer = as_object(response)
        ask.meter.tell(usage_of(answer), cost_of(ask, answer))
        return answer


def _piece(ask: Ask, dialect: Dialect, data: bytes) -> Delta | None:
    return None if data == b"[DONE]" else metered(ask, chat_piece(ask, event_object(data), dialect))


def _dialect(ask: Ask) -> Dialect:
    return dialect_of(ask.offer.provider)


def _headers(ask: Ask) -> Mapping[str, str]:
    # A server of one's own may have no keys.
    return {"authorization": f"Bearer {ask.site.key}"} if ask.site.key else {}


def _error(ask: Ask, response: HttpResponse) -> ProviderError:
    return _dialect(ask).error(Rejection.of(response, ask))
