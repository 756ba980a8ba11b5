"""What encoders with a tokenizer of the `tokenizers` library share, whoever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gifty_compute.engines.base import Job, Row
from gifty_compute.engines.encoding import bi_encoder_job, cross_encoder_job
from gifty_compute.engines.tokens import Tokens

__all__ = ["PairEncoder", "TextEncoder"]


class TextEncoder:
    """A bi-encoder: a row is a text."""

    model: str
    space: str
    dim: int
    _tokens: Tokens

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        return bi_encoder_job(self, task_type, payload)

    def rows(self, texts: Sequence[str], input_type: str) -> list[Row]:
        return self._tokens.texts(texts, input_type)

    def samples(self) -> Sequence[Sequence[Row]]:
        """Short and few: what lies lazy is loaded by any pass, and c0 is a line through these."""
        return _passes(self.rows(["чай", "тёплый подарок на зиму, мягкий шерстяной плед"], "passage"))


class PairEncoder:
    """A cross-encoder: a row is two texts."""

    model: str
    space = None
    _tokens: Tokens

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        return cross_encoder_job(self, task_type, payload)

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Row]:
        return self._tokens.pairs(pairs)

    def samples(self) -> Sequence[Sequence[Row]]:
        """As those of a text encoder."""
        return _passes(self.pairs([("чай", "мёд"), ("подарок бабушке", "мягкий шерстяной плед на зиму")]))


def _passes(rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
    short, longer = rows
    return [[short], [short] * 8, [longer] * 8]
