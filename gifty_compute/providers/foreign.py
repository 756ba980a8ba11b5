"""Foreign JSON: looked into without trusting its shape."""

from __future__ import annotations

from typing import Any

__all__ = ["amount", "count", "dig"]


def dig(value: Any, *path: str | int) -> Any:
    """What is found along the path of keys and positions; None where any step is missing.

    >>> dig({"choices": [{"text": "да"}]}, "choices", 0, "text")
    'да'
    >>> dig({"choices": None}, "choices", 0, "text") is None
    True
    """
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def count(value: Any) -> int | None:
    """The value if it counts something: a whole number, not below zero."""
    return value if type(value) is int and value >= 0 else None


def amount(value: Any) -> float | None:
    """The value if it is a finite number, not below zero."""
    return float(value) if type(value) in (int, float) and 0 <= value < float("inf") else None
