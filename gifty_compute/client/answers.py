"""What the client gives back: frozen values that name who made them.

`model` is None only in the result of a task whose row says nothing of it, such as one that came by SQL.
"""

from __future__ import annotations

import array
import base64
import importlib.util
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Chat",
    "ChatPiece",
    "Classification",
    "Embeddings",
    "Mapped",
    "Origin",
    "Ranked",
    "Ranking",
    "Score",
    "Tokens",
]


@dataclass(frozen=True)
class Tokens:
    """As the provider counted them."""

    input: int
    output: int = 0


@dataclass(frozen=True)
class Origin:
    """Who answered, by the answer's headers."""

    provider: str | None = None
    """None for the result of a task, which a worker did; of `llm` the worker's own word."""
    cached: bool = False
    attempts: int | None = None
    config: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Origin:
        attempts = headers.get("X-Gifty-Attempts")
        return cls(
            headers.get("X-Gifty-Provider"),
            headers.get("X-Gifty-Cache") == "hit",
            int(attempts) if attempts else None,
            headers.get("X-Gifty-Config"),
        )


@dataclass(frozen=True, eq=False)
class Embeddings:
    """`vectors`: float32 [texts, dim], a numpy array where numpy is installed, else lists of floats."""

    vectors: Any = field(repr=False)
    model: str | None
    space: str | None
    tokens: Tokens | None = None
    origin: Origin = Origin()


@dataclass(frozen=True)
class Ranked:
    """A document's place in a ranking."""

    index: int
    score: float
    document: str | None = None


@dataclass(frozen=True)
class Ranking:
    """`scores` in the order of the documents, `results` best first."""

    scores: list[float]
    results: list[Ranked]
    model: str | None
    kind: str | None
    tokens: Tokens | None = None
    origin: Origin = Origin()


@dataclass(frozen=True)
class Mapped:
    """An external name's category; None where nobody was sure enough."""

    external_name: str
    internal_category_id: int | str | None
    confidence: float | None = None


@dataclass(frozen=True)
class Classification:
    """One mapping a name, in the order of the names."""

    mappings: list[Mapped]
    model: str | None
    origin: Origin = Origin()


@dataclass(frozen=True)
class Score:
    """How good a gift a product is: 0 to 10; `gift_vector` holds the ten axes where they were asked for."""

    gift_score: float
    reasoning: str
    tags: list[str]
    model: str | None
    version: str | None = None
    gift_vector: dict[str, Any] | None = None
    id: str | int | None = None
    """Of a product of a task, as it was submitted."""
    origin: Origin = Origin()


@dataclass(frozen=True)
class Chat:
    """A language model's answer; `finish_reason` is stop, length or content_filter."""

    content: str
    finish_reason: str
    model: str | None
    id: str | None = None
    tokens: Tokens | None = None
    origin: Origin = Origin()


@dataclass(frozen=True)
class ChatPiece:
    """A piece of an answer that is still arriving; the last one has the finish reason."""

    text: str
    finish_reason: str | None = None


def vectors_of(rows: Any) -> Any:
    """Rows of floats, or of base64 of little-endian float32, or the binary form, as an array [rows, dim]."""
    if isinstance(rows, dict):
        return _binary(rows["dtype"], rows["shape"], base64.b64decode(rows["data"]))
    if importlib.util.find_spec("numpy") is not None:
        import numpy as np  # noqa: PLC0415 - the bare install has none

        if rows and isinstance(rows[0], str):
            return np.stack([np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows])
        return np.asarray(rows, dtype=np.float32)
    return [_floats(row) if isinstance(row, str) else row for row in rows]


def stacked(portions: list[Any]) -> Any:
    """Vectors of several answers as those of one: an array where numpy is installed, else a list."""
    if importlib.util.find_spec("numpy") is not None:
        import numpy as np  # noqa: PLC0415 - the bare install has none

        return np.concatenate(portions)
    return [vector for portion in portions for vector in portion]


def _floats(row: str) -> list[float]:
    found = array.array("f", base64.b64decode(row))
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()


def _binary(dtype: str, shape: list[int], data: bytes) -> Any:
    code = {"float32": "f", "float16": "e"}[dtype]
    if importlib.util.find_spec("numpy") is not None:
        import numpy as np  # noqa: PLC0415 - the bare install has none

        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(np.float32)
    rows, dim = shape
    numbers = struct.unpack(f"<{rows * dim}{code}", data)
    return [list(numbers[row * dim : (row + 1) * dim]) for row in range(rows)]
