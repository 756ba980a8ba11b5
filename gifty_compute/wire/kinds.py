"""The kinds of work, by task type: the payload's model and the check of a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gifty_compute.wire.body import Body
from gifty_compute.wire.classify import ClassifyPayload, check_classify
from gifty_compute.wire.embedding import EmbeddingPayload, check_embedding
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.llm import LlmPayload, check_llm
from gifty_compute.wire.rerank import RerankPayload, check_rerank
from gifty_compute.wire.score import ScorePayload, check_score

__all__ = ["KINDS", "Kind"]

Check = Callable[[dict[str, Any], dict[str, Any], Expected], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """One kind of work; `check(payload, raw result, expected)` gives the result in its stored form."""

    payload: type[Body]
    check: Check


KINDS: dict[str, Kind] = {
    "embedding": Kind(EmbeddingPayload, check_embedding),
    "rerank": Kind(RerankPayload, check_rerank),
    "classify": Kind(ClassifyPayload, check_classify),
    "score": Kind(ScorePayload, check_score),
    "llm": Kind(LlmPayload, check_llm),
}
