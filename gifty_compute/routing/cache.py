"""Cache: vectors of texts that come again, so that only the others are asked for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from gifty_compute.arrays import np, npt
from gifty_compute.providers.base import Usage
from gifty_compute.routing.call import Answer, Call, Next
from gifty_compute.wire.embedding import check_embedding

__all__ = ["Cache", "Store"]

_Vector: TypeAlias = "npt.NDArray[np.float32]"

# Of a space's section these say nothing about its vectors.
_NOT_OF_THE_VECTORS = {"default_input_type", "reference", "min_cosine"}
# A little above what the check of a result takes for a vector of zeros.
_LEAST_SQUARE = 1e-11


class Store(Protocol):
    """Values by key. Never raises and never waits long: one that is away has nothing and keeps nothing."""

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value or None for each key, in their order."""
        ...

    def put(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keeps the values for so long, if it can."""
        ...


@dataclass(frozen=True)
class _Known:
    vector: _Vector
    provider: str


class Cache:
    """A stage that keeps each vector with the name of the provider that made it.

    Vectors are told apart by space, input type and text, not by model or provider: what lies in one space
    compares. An answer that is only partly new is as that part came: its provider, attempts, usage and cost.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self, call: Call, then: Next) -> Answer:
        section = call.logic.file.routing.cache
        if section is None or call.kind != "embedding":
            return then(call)
        texts: list[str] = call.payload["texts"]
        keys = _keys(call, texts)
        known = self._known(call, keys)
        missing = [text for text in keys if text not in known]
        if not missing:
            provider = known[texts[0]].provider
            return Answer(
                _result(call, known), provider, attempts=0, usage=Usage(0), cost_usd=0.0, cached=True
            )
        complete = missing == texts
        fresh = then(call if complete else call.with_texts(missing))
        vectors = np.asarray(fresh.result["embeddings"], dtype="<f4")
        made = {text: _Known(vector, fresh.provider) for text, vector in zip(missing, vectors, strict=True)}
        self._store.put({keys[text]: _pack(new) for text, new in made.items()}, section.ttl_seconds)
        return fresh if complete else replace(fresh, result=_result(call, known | made))

    def _known(self, call: Call, keys: Mapping[str, str]) -> dict[str, _Known]:
        """What the store has, by text."""
        dim, providers = call.logic.space(call.space).dim, call.logic.file.providers
        values = self._store.get(list(keys.values()))
        found = {
            text: _unpack(value, dim, providers)
            for text, value in zip(keys, values, strict=True)
            if value is not None
        }
        return {text: known for text, known in found.items() if known is not None}


def _keys(call: Call, texts: Sequence[str]) -> dict[str, str]:
    """A key for each text, each text once. Keys are hashes: the store never sees a text."""
    # The space's section is part of it: after a restart the same name may stand for other vectors.
    space = call.logic.space(call.space).model_dump(exclude=_NOT_OF_THE_VECTORS)
    head = json.dumps([call.space, space, call.payload["input_type"]], sort_keys=True)
    begun = hashlib.blake2b(head.encode(), digest_size=20)
    keys = {}
    for text in texts:
        if text not in keys:
            digest = begun.copy()
            digest.update(text.encode())
            keys[text] = f"embedding:{digest.hexdigest()}"
    return keys


def _result(call: Call, known: Mapping[str, _Known]) -> dict[str, Any]:
    """The answer's result: for each text of the call its vector, by position."""
    vectors = np.stack([known[text].vector for text in call.payload["texts"]])
    expected = call.logic.expected(call.kind, call.model.name)
    return check_embedding(call.payload, {"embeddings": vectors}, expected)


def _pack(known: _Known) -> bytes:
    """The length of the provider's name, the name, and the numbers as little-endian float32."""
    name = known.provider.encode()
    return bytes([len(name)]) + name + known.vector.tobytes()


def _unpack(value: bytes, dim: int, providers: Container[str]) -> _Known | None:
    """None for what is not one good vector by a provider that there is."""
    start = 1 + value[0] if value else 0
    name = value[1:start].decode(errors="replace")
    if len(value) != start + 4 * dim or name not in providers:
        return None
    vector = np.frombuffer(value, dtype="<f4", offset=start)
    # NaN, infinity and zero all show in the square of the length.
    wide = vector.astype(np.float64)
    square = float(np.dot(wide, wide))
    return _Known(vector, name) if math.isfinite(square) and square > _LEAST_SQUARE else None
