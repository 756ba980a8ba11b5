"""The calls of the contract as values: what is sent, and how the answer is read. No input, no output."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gifty_compute.client.answers import (
    Chat,
    ChatPiece,
    Classification,
    Embeddings,
    Mapped,
    Origin,
    Ranked,
    Ranking,
    Score,
    Tokens,
    vectors_of,
)

__all__ = ["ApiCall", "chat", "classify", "embeddings", "piece_of", "rerank", "result_of", "score", "submit"]

T = TypeVar("T")
Headers = Mapping[str, str]


@dataclass(frozen=True)
class ApiCall(Generic[T]):
    """One call. `read(body, headers)` makes its answer; `repeatable` says that two are as good as one."""

    method: str
    path: str
    read: Callable[[Any, Headers], T]
    body: dict[str, Any] | None = field(default=None, repr=False)
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = False


def _body(timeout: float | None, **fields: Any) -> dict[str, Any]:
    if timeout is not None:
        fields["timeout_ms"] = max(1, round(timeout * 1000))
    return {name: value for name, value in fields.items() if value is not None}


def embeddings(
    texts: Sequence[str], *, model: str | None, input_type: str | None, timeout: float | None
) -> ApiCall[Embeddings]:
    def read(body: Any, headers: Headers) -> Embeddings:
        rows = [row["embedding"] for row in sorted(body["data"], key=lambda row: row["index"])]
        space = headers.get("X-Gifty-Space")
        return Embeddings(vectors_of(rows), body["model"], space, _tokens(body), Origin.of(headers))

    fields = {"input": list(texts), "model": model, "input_type": input_type, "encoding_format": "base64"}
    return ApiCall("POST", "/v1/embeddings", read, _body(timeout, **fields))


def rerank(
    query: str, documents: Sequence[str], *, model: str | None, top_n: int | None, timeout: float | None
) -> ApiCall[Ranking]:
    def read(body: Any, headers: Headers) -> Ranking:
        results = [
            Ranked(row["index"], row["relevance_score"], row.get("document")) for row in body["results"]
        ]
        origin = Origin.of(headers)
        return Ranking(body["scores"], results, body["model"], body["kind"], _tokens(body), origin)

    fields = {"query": query, "documents": list(documents), "model": model, "top_n": top_n}
    return ApiCall("POST", "/v1/rerank", read, _body(timeout, **fields))


def classify(
    external_names: Sequence[str],
    internal_categories: Sequence[Mapping[str, Any]] | None,
    *,
    timeout: float | None,
) -> ApiCall[Classification]:
    def read(body: Any, headers: Headers) -> Classification:
        return Classification([_mapped(row) for row in body["mappings"]], body["model"], Origin.of(headers))

    categories = None if internal_categories is None else [dict(one) for one in internal_categories]
    fields = {"external_names": list(external_names), "internal_categories": categories}
    return ApiCall("POST", "/v1/classify/categories", read, _body(timeout, **fields))


def score(product: Mapping[str, Any], *, axes: bool, timeout: float | None) -> ApiCall[Score]:
    def read(body: Any, headers: Headers) -> Score:
        return _score(body, body, Origin.of(headers))

    return ApiCall("POST", "/v1/products/score", read, _body(timeout, **product, axes=axes or None))


def chat(
    messages: Sequence[Mapping[str, str]],
    *,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    stop: Sequence[str] | None,
    json_mode: bool,
    stream: bool,
    timeout: float | None,
) -> ApiCall[Chat]:
    def read(body: Any, headers: Headers) -> Chat:
        [choice] = body["choices"]
        content = choice["message"]["content"]
        tokens, origin = _tokens(body), Origin.of(headers)
        return Chat(content, choice["finish_reason"], body["model"], body["id"], tokens, origin)

    fields = {
        "messages": [dict(message) for message in messages],
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "stop": list(stop) if stop else None,
        "response_format": {"type": "json_object"} if json_mode else None,
        "stream": stream or None,
    }
    return ApiCall("POST", "/v1/chat/completions", read, _body(timeout, **fields))


def piece_of(chunk: Any) -> ChatPiece | None:
    """What one event of a streamed answer holds; None for one without text and reason."""
    for choice in chunk.get("choices", ()):
        text, reason = choice.get("delta", {}).get("content") or "", choice.get("finish_reason")
        if text or reason:
            return ChatPiece(text, reason)
    return None


def submit(
    task_type: str,
    payload: Mapping[str, Any],
    *,
    key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    callback_url: str | None = None,
    max_attempts: int | None = None,
    priority: str | None = None,
) -> ApiCall[dict[str, Any]]:
    """Always under an Idempotency-Key: a submit whose answer was lost may be repeated."""
    fields = {
        "task_type": task_type,
        "payload": dict(payload),
        "metadata": None if metadata is None else dict(metadata),
        "callback_url": callback_url,
        "max_attempts": max_attempts,
        "priority": priority,
    }
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return ApiCall("POST", "/v1/tasks", _as_is, _body(None, **fields), headers=headers, repeatable=True)


def task(task_id: str, *, wait: float = 0) -> ApiCall[dict[str, Any]]:
    query = {"wait": f"{wait:g}"} if wait else {}
    return ApiCall("GET", f"/v1/tasks/{task_id}", _as_is, query=query, repeatable=True)


def tasks(**query: Any) -> ApiCall[dict[str, Any]]:
    chosen = {name: str(value) for name, value in query.items() if value is not None}
    return ApiCall("GET", "/v1/tasks", _as_is, query=chosen, repeatable=True)


def act(path: str) -> ApiCall[dict[str, Any]]:
    """A POST without a body: cancel and retry."""
    return ApiCall("POST", path, _as_is)


def result_of(task: Mapping[str, Any]) -> Any:
    """The result of a completed task as the client's own value; as it is for types that it does not know."""
    result = task["result"]
    match task["task_type"]:
        case "embedding":
            return Embeddings(vectors_of(result["embeddings"]), result["model"], result.get("space"))
        case "rerank":
            scores = result["scores"]
            order = sorted(range(len(scores)), key=lambda index: -scores[index])
            results = [Ranked(index, scores[index]) for index in order]
            return Ranking(scores, results, result["model"], result["kind"])
        case "classify":
            return Classification([_mapped(row) for row in result["mappings"]], result["model"])
        case "score":
            return [_score(row, result, Origin()) for row in result["scores"]]
        case "llm":
            used = result.get("usage")
            tokens = Tokens(used["input_tokens"], used["output_tokens"]) if used else None
            reason = result.get("finish_reason", "stop")
            return Chat(result["content"], reason, result["model"], tokens=tokens)
    return result


def messages_of(messages: Iterable[Any]) -> list[dict[str, str]]:
    """Mappings or objects with role and content as plain messages."""
    return [
        dict(one) if isinstance(one, Mapping) else {"role": one.role, "content": one.content}
        for one in messages
    ]


def _as_is(body: Any, headers: Headers) -> dict[str, Any]:  # noqa: ARG001 - it fits ApiCall.read
    found: dict[str, Any] = body
    return found


def _mapped(row: Any) -> Mapped:
    return Mapped(row["external_name"], row["internal_category_id"], row.get("confidence"))


def _score(row: Any, about: Any, origin: Origin) -> Score:
    return Score(
        row["gift_score"],
        row["reasoning"],
        row["tags"],
        about["model"],
        about.get("version"),
        row.get("gift_vector"),
        origin,
    )


def _tokens(body: Any) -> Tokens | None:
    used = body.get("usage")
    if not used:
        return None
    return Tokens(used["prompt_tokens"], used["total_tokens"] - used["prompt_tokens"])
