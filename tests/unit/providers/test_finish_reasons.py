"""P14: a text that came whole is an answer, whatever word a server has for its end; streamed likewise."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from gifty_compute.errors import ProviderError
from gifty_compute.providers.anthropic import AnthropicProvider
from gifty_compute.providers.base import StreamingProvider
from gifty_compute.providers.gemini import GeminiProvider
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from tests.unit.providers.scripted import ScriptedTransport, answered, asking

TEXT = "Подарите удочку."
ASKED = "Что подарить рыбаку Хабибуллину?"
CHAT = {"messages": [{"role": "user", "content": ASKED}], "max_tokens": 100}
ADAPTERS = {"openai": OpenaiLikeProvider, "anthropic": AnthropicProvider, "gemini": GeminiProvider}
NAMES = {"openai": "together", "anthropic": "anthropic", "gemini": "gemini"}


def whole(form: str, reason: Any, text: str = TEXT) -> dict[str, Any]:
    if form == "openai":
        return {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": reason}]}
    if form == "anthropic":
        return {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": reason}
    return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": reason}]}


def pieces(form: str, reason: Any, *, end: bool = True) -> list[bytes]:
    if form == "openai":
        events: list[Any] = [
            {"choices": [{"index": 0, "delta": {"content": TEXT}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        ]
    elif form == "anthropic":
        delta = {"type": "text_delta", "text": TEXT}
        events = [
            {"type": "content_block_delta", "delta": delta},
            {"type": "message_delta", "delta": {"stop_reason": reason}},
            *([{"type": "message_stop"}] if end else []),
        ]
    else:
        events = [whole("gemini", None), whole("gemini", reason, "")]
    done = [b"data: [DONE]\n\n"] if form == "openai" and end else []
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + done


def asked_whole(form: str, answer: Any) -> Any:
    return ADAPTERS[form](ScriptedTransport(answered(answer))).run(asking(NAMES[form], "llm", CHAT)).result


def asked_streamed(form: str, chunks: list[bytes]) -> tuple[str, str | None]:
    adapter = ADAPTERS[form](ScriptedTransport(answered({}), chunks=chunks))
    assert isinstance(adapter, StreamingProvider)
    deltas = list(adapter.stream(asking(NAMES[form], "llm", CHAT)))
    return "".join(delta.text for delta in deltas), deltas[-1].finish_reason


REASONS = ["eos_token", "STOP", "end_turn", "", "stop_token", "some_new_reason", "tool_calls"]


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", [*REASONS, None])
def test_a_whole_text_with_any_word_for_its_end_is_an_answer(form: str, reason: str | None) -> None:
    result = asked_whole(form, whole(form, reason))

    assert result == {"content": TEXT, "finish_reason": "stop"}


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason])
def test_a_streamed_text_with_any_word_for_its_end_is_an_answer(form: str, reason: str) -> None:
    assert asked_streamed(form, pieces(form, reason)) == (TEXT, "stop")


@pytest.mark.parametrize("form", ["openai", "anthropic"])
@pytest.mark.parametrize("reason", ["", None])
def test_a_stream_that_says_its_end_without_a_reason_is_an_answer(form: str, reason: str | None) -> None:
    assert asked_streamed(form, pieces(form, reason)) == (TEXT, "stop")


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", ["", None])
def test_a_stream_that_just_breaks_off_is_none(form: str, reason: str | None) -> None:
    with pytest.raises(ProviderError) as caught:
        asked_streamed(form, pieces(form, reason, end=False))

    assert caught.value.code == "cut_off"


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize(
    ("reason", "meant"),
    [("MAX_TOKENS", "length"), ("length", "length"), ("model_length", "length"), ("max_tokens", "length")],
)
def test_a_cap_is_a_cap_under_each_of_its_names(form: str, reason: str, meant: str) -> None:
    assert asked_whole(form, whole(form, reason))["finish_reason"] == meant
    assert asked_streamed(form, pieces(form, reason))[1] == meant


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", ["SAFETY", "content_filter", "refusal", "PROHIBITED_CONTENT"])
def test_a_refusal_is_a_refusal_under_each_of_its_names(form: str, reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        asked_whole(form, whole(form, reason))

    assert caught.value.code == "refused"


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", ["OTHER", "MALFORMED_FUNCTION_CALL", "abort", "pause_turn", "error"])
def test_an_end_that_its_api_documents_as_no_answer_is_none(form: str, reason: str) -> None:
    with pytest.raises(ProviderError):
        asked_whole(form, whole(form, reason))
    with pytest.raises(ProviderError):
        asked_streamed(form, pieces(form, reason))


@pytest.mark.parametrize("form", ADAPTERS)
@pytest.mark.parametrize("reason", [7, [], {}, ["stop"]])
def test_a_reason_that_is_no_word_is_no_answer(form: str, reason: Any) -> None:
    with pytest.raises(ProviderError):
        asked_whole(form, whole(form, reason))


@pytest.mark.parametrize("form", ADAPTERS)
def test_an_unknown_word_is_told_to_the_log(form: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        asked_whole(form, whole(form, "some_new_reason"))

    assert "some_new_reason" in caplog.text
    assert NAMES[form] in caplog.text


@pytest.mark.parametrize("form", ADAPTERS)
def test_a_word_out_of_the_payload_is_not(form: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        asked_whole(form, whole(form, "Хабибуллину"))

    assert "Хабибуллин" not in caplog.text
    assert NAMES[form] in caplog.text


@pytest.mark.parametrize("form", ADAPTERS)
def test_a_word_that_no_api_coined_is_not_told_either(form: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        asked_whole(form, whole(form, "kanarejka"))
        with pytest.raises(ProviderError) as caught:
            asked_whole(form, whole(form, "kanarejka", ""))

    assert "kanarejka" not in caplog.text + str(caught.value.reason)
