"""Texts as the ids that a model reads: prefixed, cut or parted, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gifty_compute.arrays import np, npt
from gifty_compute.engines.base import Row
from gifty_compute.engines.card import ModelCard

__all__ = ["Encoded", "Tokens", "padded"]


@dataclass(frozen=True)
class Encoded:
    """One input: the pieces that the model reads of it, mostly one. `types` tell a pair's two texts apart."""

    pieces: Sequence[Sequence[int]]
    types: Sequence[int] | None = None


class Tokens:
    """A tokenizer of the `tokenizers` library, used as the model's card says; safe for several threads."""

    def __init__(self, tokenizer: Any, card: ModelCard) -> None:
        self._tokenizer, self._card = tokenizer, card
        self._tokenizer.no_padding()
        if card.long_texts == "windows":
            self._tokenizer.no_truncation()
        else:
            # Of a pair, the longer one loses first.
            self._tokenizer.enable_truncation(card.max_tokens, strategy="longest_first")

    def texts(self, texts: Sequence[str], input_type: str) -> list[Row]:
        """Each with the prefix of its type (query or passage)."""
        prefix = self._card.prefixes.get("query" if input_type == "query" else "passage", "")
        encoded = self._tokenizer.encode_batch_fast([prefix + text for text in texts])
        return [self._row(one.ids) for one in encoded]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Two texts each, as one input."""
        encoded = self._tokenizer.encode_batch_fast(list(pairs))
        return [Row(len(one.ids), Encoded([one.ids], one.type_ids)) for one in encoded]

    def _row(self, ids: list[int]) -> Row:
        if self._card.long_texts == "truncate" or len(ids) <= self._card.max_tokens:
            return Row(len(ids), Encoded([ids]))
        first, *inner, last = ids
        step = self._card.max_tokens - 2
        windows = [[first, *inner[at : at + step], last] for at in range(0, len(inner), step)]
        return Row(len(ids), Encoded(windows))


def padded(pieces: Sequence[Sequence[int]], pad: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids and mask, both [pieces, longest].

    >>> padded([[0, 7, 2], [0, 2]], pad=1)[0].tolist()
    [[0, 7, 2], [0, 2, 1]]
    """
    longest = max(map(len, pieces))
    ids = np.full((len(pieces), longest), pad, np.int64)
    mask = np.zeros((len(pieces), longest), np.int64)
    for row, piece in enumerate(pieces):
        ids[row, : len(piece)] = piece
        mask[row, : len(piece)] = 1
    return ids, mask
