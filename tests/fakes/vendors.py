"""What each provider takes and answers, as its documentation has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.fakes.runpod import runpod
from tests.fakes.vendor import (
    PIECES,
    Body,
    Refused,
    Vendor,
    bearer,
    chat,
    embedding,
    need,
    openai_rows,
    ranked,
    relevance,
    said,
)

__all__ = ["vendors"]


# -- OpenAI's form: together, openrouter, groq ---------------------------------------------------------------


def _together(path: str, body: Body) -> Any:
    # The prefix is part of our base URL, and not of its own client's.
    match path.removeprefix("/v1"):
        case "/embeddings":
            need(body, {"model", "input"}, set())
            return {"object": "list", "model": body["model"], "data": openai_rows(body)}
        case "/rerank":
            need(body, {"model", "query", "documents"}, {"top_n", "return_documents", "rank_fields"})
            results = [{**row, "document": {}} for row in ranked(body, "documents")]
            return {"object": "rerank", "id": "r", "model": body["model"], "results": results}
        case "/chat/completions":
            return chat(body, roles_in_all_pieces=True, **({} if body.get("stream") else {"prompt": []}))
    raise Refused(404, path)


def _openrouter(path: str, body: Body) -> Any:
    match path:
        case "/embeddings":
            need(body, {"model", "input"})
            usage = {"prompt_tokens": 4, "total_tokens": 4, "cost": 0.00001}
            return {"object": "list", "model": body["model"], "data": openai_rows(body), "usage": usage}
        case "/rerank":
            need(body, {"model", "query", "documents"})
            usage = {"search_units": 1, "total_tokens": 9, "cost": 0.002}
            results = [
                {**row, "document": {"text": body["documents"][row["index"]]}}
                for row in ranked(body, "documents")
            ]
            return {"id": "r", "model": body["model"], "results": results, "usage": usage}
        case "/chat/completions":
            if body.get("stream"):
                counted = b'"total_tokens": 14'
                events = [event.replace(counted, counted + b', "cost": 0.00042') for event in chat(body)]
                return [b": OPENROUTER PROCESSING\n\n", *events]
            answer = chat(body, system_fingerprint=None)
            answer["usage"]["cost"] = 0.00042
            return answer
    raise Refused(404, path)


def _groq(path: str, body: Body) -> Any:
    # The prefix is part of our base URL, and not of its own client's.
    if path.removeprefix("/openai/v1") != "/chat/completions":
        raise Refused(404, path)
    return chat(body, x_groq={"id": "req_1"})


def _openai_error(status: int, why: str) -> Body:
    return {"error": {"message": why, "type": "some_error", "param": None, "code": None}}


# -- Anthropic -----------------------------------------------------------------------------------------------


def _anthropic_key(headers: Mapping[str, str]) -> bool:
    if headers.get("anthropic-version") != "2023-06-01":
        raise Refused(400, "anthropic-version")
    return headers.get("x-api-key") == "good-key"


_ANTHROPIC_FIELDS = {
    "model",
    "max_tokens",
    "messages",
    "system",
    "stop_sequences",
    "temperature",
    "thinking",
    "output_config",
    "stream",
}


def _anthropic(path: str, body: Body) -> Any:
    if path != "/v1/messages":
        raise Refused(404, path)
    for field in set(body) - _ANTHROPIC_FIELDS:
        raise Refused(400, f"{field}: extra inputs are not permitted")
    if not {"model", "max_tokens", "messages"} <= set(body):
        raise Refused(400, "a required field is missing")
    if "temperature" in body and body["model"].endswith("-5-5"):
        raise Refused(400, "temperature: this model takes none but its default")
    if any(turn["role"] not in ("user", "assistant") for turn in body["messages"]):
        raise Refused(400, "roles are user and assistant")
    text = said("format" in body.get("output_config", {}), body.get("system"))
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
                rows.append({"values": embedding(model, part["text"])})
            if len(rows) > 100:
                raise Refused(400, "at most 100 requests")
            return {"embeddings": rows}
        case "generateContent":
            config = body.get("generationConfig", {})
            text = said("responseMimeType" in config, body.get("systemInstruction"))
            return _gemini_part(body, text, "STOP")
        case "streamGenerateContent?alt=sse":
            events = [_gemini_part(body, piece, None) for piece in PIECES[:-1]]
            events.append(_gemini_part(body, PIECES[-1], "STOP"))
            return [b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events]
    raise Refused(404, path)


def _gemini_part(body: Body, text: str, reason: str | None) -> Body:
    if any(turn["role"] not in ("user", "model") for turn in body["contents"]):
        raise Refused(400, "roles are user and model")
    candidate: Body = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    used = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
    return {"candidates": [candidate], "usageMetadata": used, "modelVersion": "m", "responseId": "r"}


_GEMINI_WORDS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


def _gemini_error(status: int, why: str) -> Body:
    word = _GEMINI_WORDS.get(status, "RESOURCE_EXHAUSTED" if status in (402, 429) else "UNAVAILABLE")
    return {"error": {"code": status, "message": why, "status": word}}


# -- Gifty's Intelligence API --------------------------------------------------------------------------------


def _intelligence(path: str, body: Body) -> Any:
    match path:
        case "/v1/embeddings":
            need(body, {"input", "model"}, set())
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return {"data": openai_rows(body), "model": body["model"], "usage": usage}
        case "/v1/rerank":
            need(body, {"query", "documents"}, set())
            return {"scores": [relevance(body["query"], document) for document in body["documents"]]}
        case "/v1/classify/categories":
            need(body, {"external_names", "internal_categories"}, set())
            first = body["internal_categories"][0]["id"]
            names = body["external_names"]
            return {"mappings": [{"external_name": n, "internal_category_id": first} for n in names]}
        case "/v1/products/score":
            need(body, {"title"}, {"description", "price", "category"})
            return {"gift_score": 7.5, "reasoning": "Хороший подарок.", "tags": ["рыбалка"]}
    raise Refused(404, path)


def _fastapi_error(status: int, why: str) -> Body:
    return {"detail": [{"loc": ["body"], "msg": why, "type": "value_error"}] if status == 422 else why}


_OPENAI = {"error": {"message": "it broke", "type": "server_error", "param": None, "code": None}}
_STATELESS: dict[str, Vendor] = {
    "together": Vendor(bearer, _together, _openai_error, _OPENAI, lambda a: a.get("data")),
    "openrouter": Vendor(
        bearer,
        _openrouter,
        lambda status, why: {"error": {"code": status, "message": why}},
        {"error": {"code": 502, "message": "it broke"}},
        lambda a: a.get("data"),
    ),
    "groq": Vendor(bearer, _groq, _openai_error, _OPENAI, lambda a: None),
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
    "intelligence_api": Vendor(
        bearer, _intelligence, _fastapi_error, {"error": "it broke"}, lambda a: a.get("data")
    ),
}


def vendors() -> dict[str, Vendor]:
    """All of them by our names, with nothing of what was asked of them before."""
    return {**_STATELESS, "runpod": runpod()}
