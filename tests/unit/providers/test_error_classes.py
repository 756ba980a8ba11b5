"""What each signal of each provider means for the router: one table, read by the test that follows it.

A new provider is a column, an entry in COLUMNS and one in ENVELOPES.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gifty_compute.errors import Failure, ProviderError, TransportError
from gifty_compute.providers.anthropic import AnthropicProvider
from gifty_compute.providers.base import Ask, Provider, StreamingProvider
from gifty_compute.providers.gemini import GeminiProvider
from gifty_compute.providers.intelligence import IntelligenceProvider
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from gifty_compute.providers.runpod import RunpodProvider
from gifty_compute.transport.base import HttpResponse, Transport
from tests.unit.providers.scripted import KEY, Doing, ScriptedTransport, answered, asking

TABLE = """
signal              together  anthropic gemini    groq      openrouter  runpod    gifty
connect_failed      RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
connection_lost     FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
timeout             FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
200_not_json        FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
200_list            FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
200_empty_object    FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
200_refused         FATAL     FATAL     FATAL     FATAL     FATAL       -         -
200_cut_empty       FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    -         -
200_no_text         FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    -         -
400                 FATAL     FATAL     FATAL     FATAL     FATAL       FATAL     FATAL
400_spent           -         CONFIG    -         -         -           -         -
400_bad_key         -         -         CONFIG    -         -           -         -
400_precondition    -         -         CONFIG    -         -           -         -
400_broken_json     -         -         -         RETRY     -           -         -
400_no_such_model   CONFIG    -         -         CONFIG    CONFIG      -         -
400_page            FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
401                 CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
401_page            CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
402                 CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
403                 CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
403_moderation      -         -         -         -         FATAL       -         -
403_guardrail       -         -         -         -         FATAL       -         -
403_page            CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
404                 CONFIG    CONFIG    CONFIG    CONFIG    CONFIG      CONFIG    CONFIG
404_for_now         -         -         -         -         FAILOVER    -         -
404_for_good        -         -         -         -         CONFIG      -         -
404_too_long        -         -         -         -         FATAL       -         -
408                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
409                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
425                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
413                 FATAL     FATAL     FATAL     FAILOVER  FATAL       FATAL     FATAL
413_page            FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
422                 FATAL     FATAL     FATAL     FATAL     FATAL       FATAL     FATAL
429                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
429_retry_after     RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
429_told_in_body    -         -         RETRY     -         RETRY       -         -
429_daily           -         -         CONFIG    -         -           -         -
429_spent           CONFIG    CONFIG    -         CONFIG    -           -         -
429_page            FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
498                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
500                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
500_final           FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    -         -
502                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
502_page            RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
503                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
503_for_now         -         -         -         -         RETRY       -         -
504                 RETRY     RETRY     RETRY     RETRY     RETRY       RETRY     RETRY
524                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
529                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
302                 FAILOVER  FAILOVER  FAILOVER  FAILOVER  FAILOVER    FAILOVER  FAILOVER
"""

SECRET = "чайник-канарейка"
PAGE = f"<html><body>{SECRET}</body></html>".encode()
TEXTS = {"texts": [SECRET], "input_type": "passage"}
CHAT = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 100}


def _llm(provider: str) -> Ask:
    return asking(provider, "llm", CHAT)


COLUMNS: dict[str, tuple[Callable[[Transport], Provider], Callable[[], Ask]]] = {
    "together": (OpenaiLikeProvider, lambda: _llm("together")),
    "anthropic": (AnthropicProvider, lambda: _llm("anthropic")),
    "gemini": (GeminiProvider, lambda: _llm("gemini")),
    "groq": (OpenaiLikeProvider, lambda: _llm("groq")),
    "openrouter": (OpenaiLikeProvider, lambda: _llm("openrouter")),
    "runpod": (RunpodProvider, lambda: asking("runpod", "embedding", TEXTS)),
    "gifty": (IntelligenceProvider, lambda: asking("intelligence_api", "embedding", TEXTS)),
}

STREAMING = [name for name in COLUMNS if name not in ("runpod", "gifty")]

# Each provider's own form of an error of this status; fields are added to the error object.
ENVELOPES: dict[str, Callable[..., Any]] = {
    "together": lambda status, /, **more: {
        "error": {"message": SECRET, "type": "some_error", "param": None, "code": None, **more}
    },
    "anthropic": lambda status, /, **more: {
        "type": "error",
        "error": {"type": "some_error", "message": SECRET, **more},
        "request_id": "req_1",
    },
    # Sometimes, as here, wrapped in a list.
    "gemini": lambda status, /, **more: [
        {"error": {"code": status, "message": SECRET, "status": "SOME_STATUS", **more}}
    ],
    "groq": lambda status, /, **more: {"error": {"message": SECRET, "type": "some_error", **more}},
    "openrouter": lambda status, /, **more: {"error": {"code": status, "message": SECRET, **more}},
    "runpod": lambda status, /, **more: {"error": SECRET, **more},
    "gifty": lambda status, /, **more: {"detail": [{"loc": ["body"], "msg": SECRET}], **more},
}


def _chat(content: str | None, reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": content}, "finish_reason": reason}]}


def _message(text: str, reason: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": reason}


def _candidate(parts: list[Any], reason: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason}]}


def _details(kind: str, **fields: Any) -> dict[str, Any]:
    return {"details": [{"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}]}


def _availability(**fields: Any) -> dict[str, Any]:
    return {"availability": {"requested_models": ["some/model"], "docs_url": "https://…", **fields}}


# 200s: by provider, an answer that is none. The three that speak OpenAI's form share one.
ANSWERS: dict[str, dict[str, Any]] = {
    "200_refused": {
        "openai": _chat(SECRET, "content_filter"),
        "anthropic": _message(SECRET, "refusal"),
        "gemini": {"promptFeedback": {"blockReason": "SAFETY"}},
    },
    "200_cut_empty": {
        "openai": _chat("", "length"),
        "anthropic": _message("", "max_tokens"),
        "gemini": {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]},
    },
    "200_no_text": {
        "openai": _chat(None, "stop"),
        "anthropic": {"content": [{"type": "thinking", "thinking": SECRET}], "stop_reason": "end_turn"},
        "gemini": _candidate([{"text": SECRET, "thought": True}], "STOP"),
    },
}

# What the error object holds besides, where a signal is more than a status.
MORE: dict[tuple[str, str], dict[str, Any]] = {
    ("400_spent", "anthropic"): {
        "message": f"You have reached your specified API usage limits. {SECRET}",
        "type": "invalid_request_error",
    },
    ("400_bad_key", "gemini"): {
        "status": "INVALID_ARGUMENT",
        **_details("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com"),
    },
    ("400_precondition", "gemini"): {"status": "FAILED_PRECONDITION"},
    ("400_broken_json", "groq"): {"code": "json_validate_failed", "failed_generation": SECRET},
    ("400_no_such_model", "together"): {"code": "model_not_found"},
    ("400_no_such_model", "groq"): {"code": "model_decommissioned"},
    ("400_no_such_model", "openrouter"): _availability(code="model_not_found", retryable=False),
    ("403_moderation", "openrouter"): {"metadata": {"reasons": ["x"], "flagged_input": SECRET}},
    ("403_guardrail", "openrouter"): {"metadata": {"patterns": [SECRET]}},
    ("404_for_now", "openrouter"): _availability(code="no_endpoints", retryable=True),
    ("404_for_good", "openrouter"): _availability(code="model_deprecated", retryable=False),
    ("404_too_long", "openrouter"): _availability(
        code="constraint_filtered", retryable=False, excluded_by=["context_length"]
    ),
    ("429_told_in_body", "gemini"): _details("RetryInfo", retryDelay="0.5s"),
    ("429_told_in_body", "openrouter"): _availability(
        code="capacity_exhausted", retryable=True, retry_after=0.5
    ),
    ("429_daily", "gemini"): {
        "details": [
            {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
            {"retryDelay": "59s"},
        ]
    },
    ("429_spent", "together"): {"code": "insufficient_quota"},
    ("429_spent", "groq"): {"code": "insufficient_quota"},
    ("429_spent", "anthropic"): {
        "type": "rate_limit_error",
        "details": {"error_code": "enforced_spend_limit_reached"},
    },
    ("503_for_now", "openrouter"): _availability(
        code="temporarily_unavailable", retryable=True, retry_after=0.5
    ),
}

HEADERS = {"429_retry_after": {"retry-after": "1"}, "500_final": {"x-should-retry": "false"}}
BROKEN = {
    "connect_failed": TransportError(code="connect_failed", sent=False),
    "connection_lost": TransportError(code="connection_lost"),
    "timeout": TransportError(code="timeout"),
}
ODD_200 = {"200_not_json": PAGE, "200_list": [SECRET], "200_empty_object": {}}


def _doing(signal: str, provider: str) -> Doing:
    """What the provider does when it gives this signal."""
    if signal in BROKEN:
        return BROKEN[signal]
    if signal in ODD_200:
        return answered(ODD_200[signal])
    if signal in ANSWERS:
        by_provider = ANSWERS[signal]
        return answered(by_provider.get(provider, by_provider["openai"]))
    status = int(signal[:3])
    if signal.endswith("_page"):
        return answered(PAGE, status)
    body = ENVELOPES[provider](status, **MORE.get((signal, provider), {}))
    return answered(body, status, HEADERS.get(signal))


def _cells() -> list[tuple[str, str, Failure]]:
    header, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [
        (row[0], provider, Failure[cell])
        for row in rows
        for provider, cell in zip(header[1:], row[1:], strict=True)
        if cell != "-"
    ]


@pytest.mark.parametrize(("signal", "provider", "failure"), _cells())
def test_a_signal_means_what_the_table_says(signal: str, provider: str, failure: Failure) -> None:
    build, ask = COLUMNS[provider]
    transport = ScriptedTransport(_doing(signal, provider))

    with pytest.raises(ProviderError) as caught:
        build(transport).run(ask())

    assert caught.value.failure is failure
    assert len(transport.requests) == 1


@pytest.mark.parametrize(("signal", "provider", "failure"), _cells())
def test_nothing_of_the_payload_or_the_key_is_in_the_error(
    signal: str, provider: str, failure: Failure
) -> None:
    build, ask = COLUMNS[provider]

    with pytest.raises(ProviderError) as caught:
        build(ScriptedTransport(_doing(signal, provider))).run(ask())

    error = caught.value
    told = [error.code, error.message, str(error), repr(error), error.reason or ""]
    assert not any(SECRET in text or KEY in text for text in told)


def _before_the_stream() -> list[tuple[str, str, Failure]]:
    return [cell for cell in _cells() if not cell[0].startswith("200") and cell[1] in STREAMING]


@pytest.mark.parametrize(("signal", "provider", "failure"), _before_the_stream())
def test_a_signal_means_the_same_where_a_stream_was_asked_for(
    signal: str, provider: str, failure: Failure
) -> None:
    build, ask = COLUMNS[provider]
    adapter = build(ScriptedTransport(_doing(signal, provider)))
    assert isinstance(adapter, StreamingProvider)

    with pytest.raises(ProviderError) as caught:
        next(iter(adapter.stream(ask())))

    assert caught.value.failure is failure


ODD_BODIES = [
    b"",
    b"null",
    b"[]",
    b"[null]",
    b"[[]]",
    b"7",
    b'"text"',
    b"{}",
    b'{"error":null}',
    b'{"error":"text"}',
    b'{"error":[1]}',
    b'{"error":{"code":{},"type":[],"message":7,"status":false,"details":7,"metadata":[],"availability":1}}',
    b'{"error":{"availability":{"retryable":"yes","retry_after":"soon","excluded_by":7,"code":[]}}}',
    b'{"error":{"details":[7,{"violations":7},{"violations":[7]},{"reason":[]},{"retryDelay":7}]}}',
    b'{"error":{"details":{"error_code":7}}}',
    b'{"choices":null,"candidates":null,"content":null}',
    b'{"choices":[],"candidates":[],"content":[]}',
    b'{"choices":[7],"candidates":[7],"content":[7]}',
    b'{"choices":[{"message":7,"finish_reason":[]}],"candidates":[{"finishReason":{}}],"stop_reason":[]}',
    b'{"choices":[{"message":{"content":[7]},"finish_reason":"stop"}],"content":7,"stop_reason":"end_turn"}',
    b'{"candidates":[{"content":{"parts":7},"finishReason":"STOP"}],"x_groq":7,"usage":7}',
    b'{"candidates":[{"content":{"parts":[7,{"text":7}]},"finishReason":"STOP"}],"usageMetadata":7}',
    b'{"content":[{"type":"text","text":7}],"stop_reason":"end_turn","usage":[]}',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("provider", COLUMNS)
@pytest.mark.parametrize("status", [200, 400, 403, 404, 429, 503])
@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
def test_no_body_whatever_its_shape_is_more_than_a_provider_error(
    provider: str, status: int, body: bytes
) -> None:
    build, ask = COLUMNS[provider]

    with pytest.raises(ProviderError):
        build(ScriptedTransport(HttpResponse(status, {}, body))).run(ask())


@pytest.mark.parametrize("provider", STREAMING)
@pytest.mark.parametrize("body", ODD_BODIES[1:], ids=range(1, len(ODD_BODIES)))
def test_no_event_whatever_its_shape_is_more_than_a_provider_error(provider: str, body: bytes) -> None:
    build, ask = COLUMNS[provider]
    adapter = build(ScriptedTransport(answered(b"data: " + body + b"\n\n")))
    assert isinstance(adapter, StreamingProvider)

    with pytest.raises(ProviderError):
        list(adapter.stream(ask()))
