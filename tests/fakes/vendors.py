"""What each provider takes and answers, as its documentation has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.vectors import DIMENSIONS, vector

__all__ = ["VENDORS", "Refused", "Vendor"]

Body = dict[str, Any]
CHAT_TEXT = "Подарите удочку."
PIECES = ("Подарите ", "удочку", ".")


class Refused(Exception):
    """The vendor would answer this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Vendor:
    """One provider: `answer(path, body)` gives JSON, or the events of a stream as a list of bytes."""

    authorize: Callable[[Mapping[str, str]], bool]
    answer: Callable[[str, Body], Any]
    error: Callable[[int, str], Any]
    inside: Any
    """An error within a 200, in this vendor's form."""
    rows: Callable[[Any], list[Any] | None]
    """The list of rows in an answer, and None for one without."""
    vector_of: Callable[[Any], tuple[Any, str | int]] = lambda row: (row, "embedding")
    """Where the vector of a row is."""


def _bearer(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization") == "Bearer good-key"


def _need(body: Body, required: set[str], allowed: set[str] | None = None) -> None:
    missing = required - set(body)
    if missing:
        raise Refused(422, f"missing {sorted(missing)}")
    strange = set(body) - required - (allowed or set())
    if allowed is not None and strange:
        raise Refused(422, f"unknown {sorted(strange)}")


def _embedding(model: str, text: str) -> list[float]:
    if model not in DIMENSIONS:
        raise Refused(404, f"no model {model}")
    return [float(x) for x in vector(model, text)]


def _openai_rows(body: Body) -> list[Body]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return [
        {"object": "embedding", "embedding": _embedding(body["model"], text), "index": index}
        for index, text in enumerate(texts)
    ]


def _relevance(query: str, document: str) -> float:
    words = set(query.lower().split())
    return (1 + len(words & set(document.lower().split()))) / (2 + len(words))


def _chat_text(body: Body) -> str:
    form = body.get("response_format") or {}
    return json.dumps({"ok": True}) if form.get("type") in ("json_object", "json_schema") else CHAT_TEXT


def _chat(body: Body, **more: Any) -> Any:
    _need(body, {"model", "messages"})
    if any(turn.get("role") not in ("system", "user", "assistant") for turn in body["messages"]):
        raise Refused(400, "a role")
    about = {"id": "chatcmpl-9", "created": 1, "model": body["model"], **more}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    if not body.get("stream"):
        message = {"role": "assistant", "content": _chat_text(body)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
    events: list[Body] = []
    for number, piece in enumerate(PIECES):
        delta = {"content": piece} | ({"role": "assistant"} if number == 0 else {})
        events.append({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": usage})
    chunks = [{**about, "object": "chat.completion.chunk", **event} for event in events]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


# -- OpenAI's form: together, openrouter, groq ---------------------------------------------------------------


def _together(path: str, body: Body) -> Any:
    # The prefix is part of our base URL, and not of its own client's.
    match path.removeprefix("/v1"):
        case "/embeddings":
            _need(body, {"model", "input"}, set())
            return {"object": "list", "model": body["model"], "data": _openai_rows(body)}
        case "/rerank":
            _need(body, {"model", "query", "documents"}, {"top_n", "return_documents", "rank_fields"})
            return {
                "object": "rerank",
                "id": "r",
                "model": body["model"],
                "results": _ranked(body, "documents"),
            }
        case "/chat/completions":
            return _chat(body)
    raise Refused(404, path)


def _ranked(body: Body, field: str, *, best_first: bool = True) -> list[Body]:
    rows = [
        {"index": index, "relevance_score": _relevance(body["query"], document)}
        for index, document in enumerate(body[field])
    ]
    return sorted(rows, key=lambda row: -row["relevance_score"]) if best_first else rows


def _openrouter(path: str, body: Body) -> Any:
    match path:
        case "/embeddings":
            _need(body, {"model", "input"})
            usage = {"prompt_tokens": 4, "total_tokens": 4, "cost": 0.00001}
            return {"object": "list", "model": body["model"], "data": _openai_rows(body), "usage": usage}
        case "/rerank":
            _need(body, {"model", "query", "documents"})
            usage = {"search_units": 1, "total_tokens": 9, "cost": 0.002}
            return {"id": "r", "model": body["model"], "results": _ranked(body, "documents"), "usage": usage}
        case "/chat/completions":
            answer = _chat(body, provider="Someone")
            if isinstance(answer, dict):
                answer["usage"]["cost"] = 0.00042
            return answer
    raise Refused(404, path)


def _groq(path: str, body: Body) -> Any:
    # The prefix is part of our base URL, and not of its own client's.
    if path.removeprefix("/openai/v1") != "/chat/completions":
        raise Refused(404, path)
    return _chat(body, x_groq={"id": "req_1"})


def _openai_error(status: int, why: str) -> Body:
    return {"error": {"message": why, "type": "some_error", "param": None, "code": None}}


# -- Anthropic -----------------------------------------------------------------------------------------------


def _anthropic_key(headers: Mapping[str, str]) -> bool:
    if headers.get("anthropic-version") != "2023-06-01":
        raise Refused(400, "anthropic-version")
    return headers.get("x-api-key") == "good-key"


_ANTHROPIC_FIELDS = {"model", "max_tokens", "messages", "system", "stop_sequences", "output_config", "stream"}


def _anthropic(path: str, body: Body) -> Any:
    if path != "/v1/messages":
        raise Refused(404, path)
    for field in set(body) - _ANTHROPIC_FIELDS:
        raise Refused(400, f"{field}: extra inputs are not permitted")
    if not {"model", "max_tokens", "messages"} <= set(body):
        raise Refused(400, "a required field is missing")
    if any(turn["role"] not in ("user", "assistant") for turn in body["messages"]):
        raise Refused(400, "roles are user and assistant")
    text = '{"ok": true}' if (body.get("output_config") or {}).get("format") else CHAT_TEXT
    usage = {
        "input_tokens": 9,
        "output_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not body.get("stream"):
        return message
    events: list[Body] = [
        {
            "type": "message_start",
            "message": {
                **message,
                "content": [],
                "stop_reason": None,
                "usage": {**usage, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
}


def _anthropic_error(status: int, why: str) -> Body:
    kind = _ANTHROPIC_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": why}, "request_id": "req_1"}


# -- Gemini --------------------------------------------------------------------------------------------------


def _gemini(path: str, body: Body) -> Any:
    model, _, verb = path.removeprefix("/v1beta/models/").partition(":")
    match verb:
        case "batchEmbedContents":
            rows = []
            for request in body["requests"]:
                if request["model"] != f"models/{model}":
                    raise Refused(400, "model")
                [part] = request["content"]["parts"]
                rows.append({"values": _embedding(model, part["text"])})
            if len(rows) > 100:
                raise Refused(400, "at most 100 requests")
            return {"embeddings": rows}
        case "generateContent":
            return _gemini_part(body, CHAT_TEXT, "STOP")
        case "streamGenerateContent?alt=sse":
            events = [_gemini_part(body, piece, None) for piece in PIECES[:-1]]
            events.append(_gemini_part(body, PIECES[-1], "STOP"))
            return [b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events]
    raise Refused(404, path)


def _gemini_part(body: Body, text: str, reason: str | None) -> Body:
    if any(turn["role"] not in ("user", "model") for turn in body["contents"]):
        raise Refused(400, "roles are user and model")
    config = body.get("generationConfig", {})
    if config.get("responseMimeType") == "application/json":
        text = '{"ok": true}'
    candidate: Body = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    used = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
    return {"candidates": [candidate], "usageMetadata": used, "modelVersion": "m", "responseId": "r"}


_GEMINI_WORDS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


def _gemini_error(status: int, why: str) -> Body:
    word = _GEMINI_WORDS.get(status, "RESOURCE_EXHAUSTED" if status in (402, 429) else "UNAVAILABLE")
    return {"error": {"code": status, "message": why, "status": word}}


# -- RunPod --------------------------------------------------------------------------------------------------


def _runpod(path: str, body: Body) -> Any:
    if path == "/openai/v1/chat/completions":
        return _chat(body)
    route = path.partition("?")[0]
    if route.startswith("/cancel/"):
        return {"id": route.rpartition("/")[2], "status": "CANCELLED"}
    if route not in ("/run", "/runsync"):
        raise Refused(404, path)
    job = {"id": "job-1", "delayTime": 12, "executionTime": 80, "status": "COMPLETED"}
    return {**job, "output": _handled(body["input"])}


def _handled(work: Body) -> Any:
    """Gifty's handler, and the infinity worker's three."""
    if "texts" in work:
        return {"embeddings": [_embedding(work["model"], text) for text in work["texts"]]}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    if "openai_route" in work:
        inner = work["openai_input"]
        return [{"object": "list", "model": inner["model"], "data": _openai_rows(inner), "usage": usage}]
    if "docs" in work:
        return {"model": work["model"], "results": _ranked(work, "docs", best_first=False), "usage": usage}
    return {"object": "list", "model": work["model"], "data": _openai_rows(work), "usage": usage}


def _runpod_rows(answer: Any) -> list[Any] | None:
    found: list[Any] | None = answer.get("output", {}).get("embeddings")
    return found


# -- Gifty's Intelligence API --------------------------------------------------------------------------------


def _intelligence(path: str, body: Body) -> Any:
    match path:
        case "/v1/embeddings":
            _need(body, {"input", "model"}, set())
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return {"data": _openai_rows(body), "model": body["model"], "usage": usage}
        case "/v1/rerank":
            _need(body, {"query", "documents"}, set())
            return {"scores": [_relevance(body["query"], document) for document in body["documents"]]}
        case "/v1/classify/categories":
            _need(body, {"external_names", "internal_categories"}, set())
            first = body["internal_categories"][0]["id"]
            names = body["external_names"]
            return {"mappings": [{"external_name": n, "internal_category_id": first} for n in names]}
        case "/v1/products/score":
            _need(body, {"title"}, {"description", "price", "category"})
            return {"gift_score": 7.5, "reasoning": "Хороший подарок.", "tags": ["рыбалка"]}
    raise Refused(404, path)


def _fastapi_error(status: int, why: str) -> Body:
    return {"detail": [{"loc": ["body"], "msg": why, "type": "value_error"}] if status == 422 else why}


_OPENAI = {"error": {"message": "it broke", "type": "server_error", "param": None, "code": None}}
VENDORS: dict[str, Vendor] = {
    "together": Vendor(_bearer, _together, _openai_error, _OPENAI, lambda a: a.get("data")),
    "openrouter": Vendor(
        _bearer,
        _openrouter,
        lambda status, why: {"error": {"code": status, "message": why}},
        {"error": {"code": 502, "message": "it broke"}},
        lambda a: a.get("data"),
    ),
    "groq": Vendor(_bearer, _groq, _openai_error, _OPENAI, lambda a: None),
    "anthropic": Vendor(
        _anthropic_key,
        _anthropic,
        _anthropic_error,
        {"type": "error", "error": {"type": "overloaded_error", "message": "it broke"}},
        lambda a: None,
    ),
    "gemini": Vendor(
        lambda headers: headers.get("x-goog-api-key") == "good-key",
        _gemini,
        _gemini_error,
        {"promptFeedback": {}},
        lambda a: a.get("embeddings"),
        lambda row: (row, "values"),
    ),
    "runpod": Vendor(
        _bearer,
        _runpod,
        lambda status, why: {"error": why},
        {"id": "job-1", "status": "FAILED", "error": '{"error_type": "<class \'RuntimeError\'>"}'},
        _runpod_rows,
        lambda row: (None, ""),
    ),
    "intelligence_api": Vendor(
        _bearer, _intelligence, _fastapi_error, {"error": "it broke"}, lambda a: a.get("data")
    ),
}
