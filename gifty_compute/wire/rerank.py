"""Reranking: a query and documents in, one score a document out."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import Body, Deliverable
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.text import CleanText, Text

__all__ = ["RerankPayload", "RerankRequest", "check_rerank"]


class RerankRequest(Deliverable):
    """The body of /v1/rerank."""

    query: Text
    documents: list[Text] = Field(min_length=1, max_length=1000)
    model: CleanText | None = None
    top_n: int | None = Field(default=None, ge=1, description="High priority only.")
    return_documents: bool | None = Field(default=None, description="High priority only.")

    @model_validator(mode="after")
    def _a_task_scores_all(self) -> RerankRequest:
        for field in ("top_n", "return_documents"):
            if self.priority == "low" and getattr(self, field) is not None:
                raise PydanticCustomError(
                    "wrong_priority", "{param} does not go with priority low", {"param": field}
                )
        return self

    def payload(self) -> dict[str, Any]:
        """The same work as a task's payload."""
        fields = {"query": self.query, "documents": self.documents, "model": self.model}
        return {name: value for name, value in fields.items() if value is not None}


class RerankPayload(Body):
    """What a rerank task holds."""

    query: Text
    documents: list[Text] = Field(min_length=1, max_length=1000)
    model: CleanText | None = None


def check_rerank(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The result in its stored form: a finite score for each document, in the order of the documents."""
    expected.refuse_strangers(raw, {"scores", "model", "kind", "usage"})
    expected.refuse_other_model(raw)
    scores = raw.get("scores")
    if not isinstance(scores, list) or len(scores) != len(payload["documents"]):
        raise InvalidResult(f"scores must be {len(payload['documents'])} numbers", param="scores")
    for score in scores:
        if type(score) not in (int, float) or not abs(score) <= sys.float_info.max:
            raise InvalidResult("a score is not a finite number", param="scores")
    kind = raw.get("kind", "unknown")
    if kind not in ("cross-encoder", "bi-encoder", "unknown"):
        raise InvalidResult("kind is cross-encoder or bi-encoder", param="kind")
    return {"scores": [float(score) for score in scores], "model": expected.model, "kind": kind}
