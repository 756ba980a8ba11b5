"""Vectors that are a function of space and text, so that two fakes of one space agree."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["DIMENSIONS", "vector"]

# By the providers' own ids of models: the space that each is of, and its dimension.
DIMENSIONS = {
    "bge-m3": ("bge-m3", 1024),
    "BAAI/bge-m3": ("bge-m3", 1024),
    "baai/bge-m3": ("bge-m3", 1024),
    "intfloat/multilingual-e5-large-instruct": ("multilingual-e5-large-instruct", 1024),
    "gemini-embedding-001": ("gemini-embedding-001", 3072),
}


def vector(model: str, text: str) -> npt.NDArray[np.float64]:
    """The unit vector of this text in the model's space."""
    space, dim = DIMENSIONS[model]
    seed = int.from_bytes(hashlib.sha256(f"{space} {text}".encode()).digest()[:8])
    found = np.random.default_rng(seed).normal(size=dim)
    return found / np.linalg.norm(found)
