"""P22: what a provider says of its error reaches the operator, without the payload and without the key."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers.intelligence import IntelligenceProvider
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from gifty_compute.providers.runpod import RunpodProvider
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking
from tests.unit.providers.test_error_classes import COLUMNS, ENVELOPES

TEXT = "Подарок для Анны kanarejka5f1c, ул. Лесная 7"
CHAT = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 100}
SAID = "maximum context length is 8192 tokens"


def failed(adapter: Any, ask: Any, answer: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        adapter(ScriptedTransport(answer)).run(ask)
    return caught.value


@pytest.mark.parametrize("provider", COLUMNS)
@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_status_reason_and_wait_are_kept(provider: str, status: int) -> None:
    build, ask = COLUMNS[provider]
    body = ENVELOPES[provider](status)
    for place in (body, body[0] if isinstance(body, list) else body):
        if isinstance(place, dict):
            _replace(place, SAID)

    error = failed(build, ask(), answered(body, status, {"retry-after": "7"}))

    assert (error.status, error.retry_after) == (status, 7.0)
    assert error.reason is not None
    assert SAID in error.reason


def _replace(value: Any, said: str) -> None:
    for key, one in list(value.items()):
        if isinstance(one, str) and key in ("message", "error", "msg"):
            value[key] = said
        elif isinstance(one, dict):
            _replace(one, said)
        elif isinstance(one, list):
            for row in one:
                if isinstance(row, dict):
                    _replace(row, said)


@pytest.mark.parametrize("provider", COLUMNS)
def test_of_a_reason_that_quotes_payload_and_key_the_rest_is_told(provider: str) -> None:
    build, ask = COLUMNS[provider]
    asked = ask()
    text = (asked.payload.get("texts") or [asked.payload["messages"][0]["content"]])[0]
    said = f"{SAID}; got {text!r} by {KEY} at http://u:p@x.test/?key={KEY}"
    body = {"error": {"message": said, "code": None}, "detail": said}

    error = failed(build, asked, answered(body, 400))

    assert error.reason is not None
    assert SAID in error.reason
    for secret in (text, "канарейка", KEY, "u:p@"):
        assert secret not in error.reason
        assert secret not in f"{error.message}{error.code}"


@pytest.mark.parametrize("code", [None, "400"])
def test_p22_a_400_without_a_code_says_its_message(code: str | None) -> None:
    body = {"error": {"message": SAID, "type": "invalid_request_error", "param": None, "code": code}}

    error = failed(OpenaiLikeProvider, asking("together", "llm", CHAT), answered(body, 400))

    assert (error.code, error.failure) == ("bad_request", Failure.FATAL)
    assert error.reason == f"invalid_request_error: {SAID}"


def test_what_the_server_behind_a_gateway_said_is_told_too() -> None:
    raw = '{"error": {"message": "model is warming up"}}'
    body = {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": raw}}}

    error = failed(OpenaiLikeProvider, asking("openrouter", "llm", CHAT), answered(body, 502))

    assert error.reason is not None
    assert "model is warming up" in error.reason


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", "502 Bad Gateway"),
        (b"upstream connect error or disconnect/reset before headers", "upstream connect error"),
        (b"<html><body>Hello</body></html>", None),
        (b"", None),
    ],
)
def test_of_a_page_the_title_is_told_and_of_a_text_its_beginning(page: bytes, reason: str | None) -> None:
    error = failed(OpenaiLikeProvider, asking("together", "llm", CHAT), answered(page, 502))

    assert error.reason is None if reason is None else reason in str(error.reason)


def test_a_job_of_runpod_that_failed_says_why() -> None:
    told = {
        "status": "FAILED",
        "error": '{"error_type": "<class \'RuntimeError\'>", "error_message": "CUDA out of memory"}',
    }
    ask = asking("runpod", "embedding", {"texts": [TEXT], "input_type": "passage"})

    error = failed(RunpodProvider, ask, answered(told))

    assert error.reason == "CUDA out of memory"


def test_a_field_that_a_facade_refuses_is_told() -> None:
    body = {"detail": [{"loc": ["body", "input"], "msg": "field required", "input": TEXT}]}
    ask = asking("intelligence_api", "embedding", {"texts": [TEXT], "input_type": "passage"})

    assert failed(IntelligenceProvider, ask, answered(body, 422)).reason == "body.input: field required"


@pytest.mark.parametrize("block", ["PROHIBITED_CONTENT", "SAFETY"])
@pytest.mark.parametrize("stream", [False, True])
def test_why_gemini_blocked_a_prompt_is_told(block: str, stream: bool) -> None:
    build, ask = COLUMNS["gemini"]
    body = {"promptFeedback": {"blockReason": block}}
    chunks = [b'data: {"promptFeedback": {"blockReason": "' + block.encode() + b'"}}\n\n']
    adapter: Any = build(ScriptedTransport(answered(body), chunks=chunks if stream else None))

    with pytest.raises(ProviderError) as caught:
        list(adapter.stream(ask())) if stream else adapter.run(ask())

    assert caught.value.code == "refused"
    assert block in str(caught.value.reason)


def test_anthropics_overload_says_so_in_a_stream_as_well() -> None:
    build, ask = COLUMNS["anthropic"]
    event = b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
    adapter: Any = build(ScriptedTransport(answered({}), chunks=[event]))

    with pytest.raises(ProviderError) as caught:
        list(adapter.stream(ask()))

    assert (caught.value.status, caught.value.reason) == (529, "overloaded_error: Overloaded")


# -- an unknown model id -------------------------------------------------------------------------------------

LITELLM = (
    "/chat/completions: Invalid model name passed in model=some/model. Call `/v1/models` to view models."
)


@pytest.mark.parametrize(
    "error",
    [
        {"message": LITELLM, "type": "None", "param": "None", "code": "400"},
        {"message": f"litellm.BadRequestError: {LITELLM}", "type": None, "param": None, "code": "400"},
        {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": None},
        {"message": "x", "code": "model_not_found"},
    ],
)
def test_a_400_for_a_model_that_is_not_served_is_the_operators(error: dict[str, Any]) -> None:
    found = failed(OpenaiLikeProvider, asking("together", "llm", CHAT), answered({"error": error}, 400))

    assert (found.failure, found.code) == (Failure.CONFIG, "model_not_found")
    assert "some/model" in str(found.reason) or "model" in str(found.reason)


@pytest.mark.parametrize(
    "message",
    [f"bad input: you wrote '{LITELLM}'", "Invalid model name passed in model=another", "Invalid model name"],
)
def test_a_callers_text_cannot_make_one_of_another_error(message: str) -> None:
    error = {"message": message, "param": None, "code": None}

    found = failed(OpenaiLikeProvider, asking("together", "llm", CHAT), answered({"error": error}, 400))

    assert found.failure is Failure.FATAL
