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
    return _characters([v for field, v in payload.items() if field not in _NOT_READ]) // CHARACTERS_A_TOKEN


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_characters, inner))
