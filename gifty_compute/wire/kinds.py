"""The kinds of work, by task type: the payload's model and the check of a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import Body
from gifty_compute.wire.classify import ClassifyPayload, check_classify
from gifty_compute.wire.embedding import EmbeddingPayload, check_embedding
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.llm import LlmPayload, check_llm
from gifty_compute.wire.rerank import RerankPayload, check_rerank
from gifty_compute.wire.score import ScorePayload, check_score
from gifty_compute.wire.text import clean_json

__all__ = ["KINDS", "Kind"]

Check = Callable[[dict[str, Any], dict[str, Any], Expected], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """One kind of work; `check(payload, raw result, expected)` gives the result in its stored form."""

    payload: type[Body]
    check: Check


def _storable(check: Check) -> Check:
    """The check, which then refuses text that PostgreSQL cannot keep, and nesting that no answer can show."""

    def checked(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
        result = check(payload, raw, expected)
        try:
            clean_json(result)
        except PydanticCustomError as error:
            raise InvalidResult(f"result: {error.message()}", param="result") from error
        return result

    return checked


# The results of the first two hold no words but the task's own.
KINDS: dict[str, Kind] = {
    "embedding": Kind(EmbeddingPayload, check_embedding),
    "rerank": Kind(RerankPayload, check_rerank),
    "classify": Kind(ClassifyPayload, _storable(check_classify)),
    "score": Kind(ScorePayload, _storable(check_score)),
    "llm": Kind(LlmPayload, _storable(check_llm)),
}
