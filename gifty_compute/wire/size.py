"""The size of a payload: about how many tokens a model reads of it."""

from __future__ import annotations

from typing import Any

__all__ = ["CHARACTERS_A_TOKEN", "estimated_tokens"]

# Russian text in the tokenizers of bge-m3, E5 and current language models.
CHARACTERS_A_TOKEN = 3
_NOT_READ = frozenset({"model", "input_type"})


def estimated_tokens(payload: dict[str, Any]) -> int:
    """About how many tokens all texts of a payload have.

    >>> estimated_tokens({"texts": ["чайник", "чай"], "model": "bge-m3"})
    3
    """
    characters, values = 0, [value for field, value in payload.items() if field not in _NOT_READ]
    while values:
        value = values.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
    return characters // CHARACTERS_A_TOKEN
