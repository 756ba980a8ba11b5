"""A stream that is silent says so, and one that sends no text yet says that, from every provider."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gifty_compute.errors import ProviderError
from gifty_compute.providers.anthropic import AnthropicProvider
from gifty_compute.providers.base import PROGRESS, QUIET, THINKING, Delta, StreamingProvider
from gifty_compute.providers.gemini import GeminiProvider
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from tests.unit.providers.scripted import ScriptedTransport, answered, asking

ASKED = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 5}
PIECES: dict[str, tuple[Any, Any]] = {
    "groq": (OpenaiLikeProvider, {"choices": [{"delta": {"content": "да"}}]}),
    "anthropic": (
        AnthropicProvider,
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "да"}},
    ),
    "gemini": (GeminiProvider, {"candidates": [{"content": {"parts": [{"text": "да"}]}}]}),
}


@pytest.mark.parametrize("provider", PIECES)
def test_silence_and_signs_without_text_are_told_apart(provider: str) -> None:
    adapter, piece = PIECES[provider]
    event = b"data: " + orjson.dumps(piece) + b"\n\n"
    streaming: StreamingProvider = adapter(
        ScriptedTransport(answered(b""), chunks=[b"", event, b": comment\n\n", b""])
    )
    pieces = streaming.stream(asking(provider, "llm", ASKED))

    assert [next(pieces) for _ in range(4)] == [QUIET, Delta("да"), PROGRESS, QUIET]
    with pytest.raises(ProviderError, match="ended before"):
        next(pieces)


THOUGHTS: list[tuple[str, Any]] = [
    ("groq", {"choices": [{"delta": {"reasoning": "Так"}}]}),
    ("together", {"choices": [{"delta": {"reasoning_content": "Так"}}]}),
    ("openrouter", {"choices": [{"delta": {"content": "", "reasoning_details": [{"text": "Так"}]}}]}),
    ("anthropic", {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Так"}}),
    ("anthropic", {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}}),
    ("gemini", {"candidates": [{"content": {"parts": [{"text": "Так", "thought": True}]}}]}),
]
SIGNS: list[tuple[str, Any]] = [
    ("groq", {"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
    ("openrouter", {"choices": [{"delta": {"content": "", "reasoning": None}}]}),
    ("anthropic", {"type": "ping"}),
    ("anthropic", {"type": "message_start", "message": {"usage": {"input_tokens": 9}}}),
    ("gemini", {"usageMetadata": {"promptTokenCount": 9}}),
]


def first_of(provider: str, piece: Any) -> Delta:
    adapter = PIECES.get(provider, PIECES["groq"])[0]
    event = b"data: " + orjson.dumps(piece) + b"\n\n"
    streaming: StreamingProvider = adapter(ScriptedTransport(answered(b""), chunks=[event]))
    return next(streaming.stream(asking(provider, "llm", ASKED)))


@pytest.mark.parametrize(("provider", "piece"), THOUGHTS)
def test_a_thought_is_a_sign_of_life_and_no_text(provider: str, piece: Any) -> None:
    """P8, K3: what a model thinks was dropped, and counted as silence."""
    assert first_of(provider, piece) == THINKING


@pytest.mark.parametrize(("provider", "piece"), SIGNS)
def test_an_event_without_text_is_a_sign_of_life(provider: str, piece: Any) -> None:
    assert first_of(provider, piece) == PROGRESS
