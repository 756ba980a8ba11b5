"""A stream that is silent says so, from every provider that can stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gifty_compute.errors import ProviderError
from gifty_compute.providers.anthropic import AnthropicProvider
from gifty_compute.providers.base import QUIET, Delta, StreamingProvider
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
def test_silence_is_passed_on(provider: str) -> None:
    adapter, piece = PIECES[provider]
    event = b"data: " + orjson.dumps(piece) + b"\n\n"
    streaming: StreamingProvider = adapter(
        ScriptedTransport(answered(b""), chunks=[b"", event, b": comment\n\n", b""])
    )
    pieces = streaming.stream(asking(provider, "llm", ASKED))

    assert [next(pieces) for _ in range(4)] == [QUIET, Delta("да"), QUIET, QUIET]
    with pytest.raises(ProviderError, match="ended before"):
        next(pieces)
