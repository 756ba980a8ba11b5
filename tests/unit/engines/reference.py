"""The packaged model's own weights, multiplied by numpy alone: what every form of it is compared with."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

import numpy as np

from gifty_compute.engines.form.packed import Packed, Quantized

_erf = np.vectorize(erf, otypes=[np.float32])


def vectors(packed: Packed, texts: list[list[int]]) -> Any:
    """The unit vector of each text, by its ids."""
    words = packed.quantized("emb.word", packed.hidden)
    return np.stack([_vector(packed, words, ids) for ids in texts])


def _vector(packed: Packed, word: Quantized, ids: list[int]) -> Any:
    blocks = word.levels[ids].reshape(len(ids), -1, 32) * word.scales[ids].astype(np.float32)[:, :, None]
    places = packed.floats("emb.pos").reshape(-1, packed.hidden)[: len(ids)]
    state = blocks.reshape(len(ids), -1) + places + packed.floats("emb.type")[: packed.hidden]
    state = _normal(packed, "emb.ln", state)
    for layer in range(packed.layers):
        at = f"l{layer}"
        q, k, v = (_heads(packed, _linear(packed, f"{at}.{part}", state)) for part in "qkv")
        scores = q @ k.transpose(0, 2, 1) / sqrt(q.shape[2])
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        seen = (shares / shares.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(state.shape)
        state = _normal(packed, f"{at}.aln", state + _linear(packed, f"{at}.ao", seen))
        inner = _linear(packed, f"{at}.fi", state)
        inner = inner * (1 + _erf(inner / sqrt(2))) / 2
        state = _normal(packed, f"{at}.oln", state + _linear(packed, f"{at}.fo", inner))
    mean = state.mean(axis=0)
    return mean / np.linalg.norm(mean)


def _linear(packed: Packed, name: str, state: Any) -> Any:
    return state @ packed.quantized(f"{name}.w", state.shape[1]).floats().T + packed.floats(f"{name}.b")


def _normal(packed: Packed, name: str, state: Any) -> Any:
    centred = state - state.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + packed.epsilon)
    return scaled * packed.floats(f"{name}.w") + packed.floats(f"{name}.b")


def _heads(packed: Packed, state: Any) -> Any:
    return state.reshape(len(state), packed.heads, -1).transpose(1, 0, 2)
