"""Classification: a shop's category names in, Gifty's category for each out."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import Body, Deliverable, Many
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.text import CleanText, Text

__all__ = ["ClassifyPayload", "ClassifyRequest", "InternalCategory", "check_classify"]


class InternalCategory(Body):
    """One of Gifty's own categories."""

    id: int | CleanText
    name: Text


class ClassifyPayload(Body):
    """What a classify task holds."""

    external_names: list[Text] = Field(min_length=1, max_length=1000)
    internal_categories: Many[InternalCategory] | None = Field(default=None, min_length=1, max_length=2000)
    model: CleanText | None = None


class ClassifyRequest(Deliverable):
    """The body of /v1/classify/categories; without internal_categories the configured tree is used."""

    external_names: list[Text] = Field(min_length=1, max_length=1000)
    internal_categories: Many[InternalCategory] | None = Field(default=None, min_length=1, max_length=2000)

    def payload(self) -> dict[str, Any]:
        """The same work as a task's payload."""
        return self.model_dump(include={"external_names", "internal_categories"}, exclude_none=True)


def check_classify(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The result in its stored form: one mapping per name, in order.

    An id under the configured confidence becomes null; a result without confidences keeps its ids.
    """
    expected.refuse_strangers(raw, {"mappings", "model", "kind", "usage"})
    expected.refuse_other_model(raw)
    names, mappings = payload["external_names"], raw.get("mappings")
    if not isinstance(mappings, list) or len(mappings) != len(names):
        raise InvalidResult(f"mappings must be {len(names)}, one for each name", param="mappings")
    ids = {category["id"] for category in payload["internal_categories"]}
    result: dict[str, Any] = {
        "mappings": [
            _mapping(name, mapping, ids, expected.min_confidence)
            for name, mapping in zip(names, mappings, strict=True)
        ],
        "model": expected.model,
    }
    if raw.get("kind") is not None:
        if raw["kind"] not in ("cross-encoder", "bi-encoder"):
            raise InvalidResult("kind is cross-encoder or bi-encoder", param="kind")
        result["kind"] = raw["kind"]
    return result


def _mapping(name: str, mapping: Any, ids: set[Any], least: float) -> dict[str, Any]:
    if not isinstance(mapping, dict) or mapping.get("external_name") != name:
        raise InvalidResult("mappings must answer each external name once, in order", param="mappings")
    chosen, confidence = mapping.get("internal_category_id"), mapping.get("confidence")
    if chosen is not None and (type(chosen) not in (int, str) or chosen not in ids):
        raise InvalidResult("internal_category_id is none of those sent", param="mappings")
    if confidence is not None and not (type(confidence) in (int, float) and 0 <= confidence <= 1):
        raise InvalidResult("confidence is a number from 0 to 1", param="mappings")
    if confidence is not None and confidence < least:
        chosen = None
    return {"external_name": name, "internal_category_id": chosen, "confidence": confidence}
