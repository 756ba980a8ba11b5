"""The size of a payload: about how many tokens a model reads of it."""

from __future__ import annotations

from typing import Any

__all__ = ["CHARACTERS_A_TOKEN", "estimated_tokens", "estimated_work"]

# Russian text in the tokenizers of bge-m3, E5 and current language models.
CHARACTERS_A_TOKEN = 3
# What a text costs beside its letters, in tokens: its beginning, its end and the prefix of its space.
_TOKENS_A_TEXT = 8
_NOT_READ = frozenset({"model", "input_type"})


def estimated_tokens(payload: dict[str, Any]) -> int:
    """About how many tokens all texts of a payload have.

    >>> estimated_tokens({"texts": ["чайник", "чай"], "model": "bge-m3"})
    3
    """
    return _measured(payload)[0] // CHARACTERS_A_TOKEN


def estimated_work(payload: dict[str, Any]) -> int:
    """About how many tokens a model works for: those of all texts, and a few for each text.

    >>> estimated_work({"texts": ["чайник", "чай"], "model": "bge-m3"})
    19
    """
    characters, texts = _measured(payload)
    return characters // CHARACTERS_A_TOKEN + _TOKENS_A_TEXT * texts


def _measured(payload: dict[str, Any]) -> tuple[int, int]:
    """The characters of all texts of a payload, and the number of texts."""
    characters, texts, values = 0, 0, [value for field, value in payload.items() if field not in _NOT_READ]
    while values:
        value = values.pop()
        if isinstance(value, str):
            characters += len(value)
            texts += 1
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
    return characters, texts
