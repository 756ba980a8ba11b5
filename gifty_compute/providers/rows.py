"""Rows: one for each text or document of a request, in whatever order a provider gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from gifty_compute.arrays import np, npt
from gifty_compute.errors import InvalidResult
from gifty_compute.providers.base import Usage
from gifty_compute.providers.failures import bad_answer
from gifty_compute.wire import vectors

__all__ = [
    "by_index",
    "by_index_or_in_order",
    "fitting",
    "float_rows",
    "portions",
    "reranker_kind",
    "total_cost",
    "total_usage",
]

T = TypeVar("T")


def portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, at most so many at a time.

    >>> list(portions("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def fitting(texts: Sequence[str], most_bytes: float) -> int:
    """How many of the texts, from the first on, have no more than so many bytes as JSON; at least one.

    >>> fitting(["чай", "чай", "чай"], 18), fitting(["чай"], 1)
    (2, 1)
    """
    size = 0
    for number, text in enumerate(texts):
        size += len(orjson.dumps(text)) + 1
        if size > most_bytes:
            return max(number, 1)
    return len(texts)


def by_index_or_in_order(rows: Any, expected: int) -> list[dict[str, Any]]:
    """The same as by_index; but where no row has an index, their own order counts.

    Only for a provider whose documentation promises that order.
    """
    if isinstance(rows, list) and all(isinstance(row, dict) and row.get("index") is None for row in rows):
        rows = [{**row, "index": place} for place, row in enumerate(rows)]
    return by_index(rows, expected)


def by_index(rows: Any, expected: int) -> list[dict[str, Any]]:
    """The rows in the order of what they answer, as each one's own `index` says.

    Raises ProviderError (bad_answer) unless there is exactly one for each.
    """
    if not isinstance(rows, list) or len(rows) != expected:
        found = len(rows) if isinstance(rows, list) else "no"
        raise bad_answer(f"answered {found} rows for {expected}")
    placed: dict[int, dict[str, Any]] = {}
    for row in rows:
        index = row.get("index") if isinstance(row, dict) else None
        if type(index) is not int or not 0 <= index < expected:
            raise bad_answer("answered a row without an index of the request")
        placed[index] = row
    if len(placed) != expected:
        raise bad_answer("answered two rows for the same index")
    return [placed[index] for index in range(expected)]


def reranker_kind(answer: Mapping[str, Any], silent: str = "unknown") -> str:
    """How the server says that it compared query and documents; `silent` for one that does not say.

    >>> reranker_kind({"kind": "bi-encoder"}), reranker_kind({}), reranker_kind({"kind": "colbert"})
    ('bi-encoder', 'unknown', 'unknown')
    """
    said = answer.get("kind")
    if said is None:
        return silent
    return said if said in ("cross-encoder", "bi-encoder") else "unknown"


def float_rows(rows: list[Any]) -> npt.NDArray[np.float32]:
    """Lists of numbers as an array of shape [rows, dim].

    Raises ProviderError (bad_answer) for anything but numbers, or for rows of different lengths.
    """
    try:
        return vectors.decode(rows).astype(np.float32, copy=False)
    except InvalidResult as error:
        raise bad_answer(error.message) from error


def total_usage(usages: Sequence[Usage | None]) -> Usage | None:
    """Of all portions together; None where one is not known."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    return Usage(sum(usage.input_tokens for usage in known), sum(usage.output_tokens for usage in known))


def total_cost(costs: Sequence[float | None]) -> float | None:
    """US dollars, or seconds of a GPU, of all portions together; None where one is not known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
