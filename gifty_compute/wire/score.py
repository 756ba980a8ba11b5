"""Scoring: a product in, how good a gift it is out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import Body, Deliverable, Many
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.scale import Scale
from gifty_compute.wire.text import CleanText, Text

__all__ = ["AXES", "Product", "ScorePayload", "ScoreRequest", "check_score"]

AXES = (
    "wow_factor",
    "warmth",
    "romance",
    "practicality",
    "usage_frequency",
    "occasion_versatility",
    "aesthetics",
    "social_risk",
    "age_suitability",
    "gender_bias",
)
"""Gifty's ten axes; each is 0 to 1 or null, but age_suitability, which is an object."""

MAX_SCORE = 10


def _short(value: str) -> str:
    if len(value) > 32_768:
        raise ValueError("text is longer than 32768 characters")
    return value


_Words = Annotated[CleanText, AfterValidator(_short)]


class _Fields(Body):
    title: Text
    description: _Words | None = None
    price: float | int | CleanText | None = None
    category: _Words | None = None
    merchant: _Words | None = None
    image_url: Annotated[CleanText, Field(max_length=2048)] | None = None
    content_text: _Words | None = None


class Product(_Fields):
    """A product of a score task."""

    id: CleanText | int | None = None
    axes: bool = False


class ScorePayload(Body):
    """What a score task holds."""

    products: Many[Product] = Field(min_length=1, max_length=100)
    model: CleanText | None = None
    notebook_scale: Scale | None = Field(
        default=None, description="What an older notebook scores these on; other workers do not read it."
    )


class ScoreRequest(_Fields, Deliverable):
    """The body of /v1/products/score: one product."""

    axes: bool = False

    def payload(self) -> dict[str, Any]:
        """The same work as a task's payload."""
        product = self.model_dump(include=set(Product.model_fields), exclude_none=True)
        return {"products": [product]}


def check_score(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The result in its stored form: one score a product, in order, each from 0 to 10.

    Raises InvalidResult for a wrong count, a score out of range, an empty reasoning, or axes that are not
    Gifty's; axes that were asked for must be there.
    """
    expected.refuse_strangers(raw, {"scores", "model", "version", "usage"})
    products, scores = payload["products"], raw.get("scores")
    if not isinstance(scores, list) or len(scores) != len(products):
        raise InvalidResult(f"scores must be {len(products)}, one for each product", param="scores")
    return {
        "scores": [_score(product, score) for product, score in zip(products, scores, strict=True)],
        "model": _word(raw.get("model"), "model") or expected.model,
        "version": _word(raw.get("version"), "version"),
    }


def _score(product: dict[str, Any], score: Any) -> dict[str, Any]:
    if not isinstance(score, dict) or score.get("id") not in (None, product.get("id")):
        raise InvalidResult("scores must answer each product once, in order", param="scores")
    for field in score:
        if field not in {"id", "gift_score", "reasoning", "tags", "gift_vector"}:
            raise InvalidResult(f"a score has no field {field[:40]!r}", param="scores")
    gift_score, reasoning, tags = score.get("gift_score"), score.get("reasoning"), score.get("tags", [])
    if isinstance(gift_score, bool) or not isinstance(gift_score, int | float):
        raise InvalidResult("gift_score is not a number", param="scores")
    if not 0 <= gift_score <= MAX_SCORE:
        raise InvalidResult(f"gift_score is a number from 0 to {MAX_SCORE}", param="scores")
    if not isinstance(reasoning, str) or not reasoning.strip():
        raise InvalidResult("reasoning is missing", param="scores")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidResult("tags are a list of words", param="scores")
    result: dict[str, Any] = {} if product.get("id") is None else {"id": product["id"]}
    result |= {"gift_score": float(gift_score), "reasoning": reasoning, "tags": tags}
    if score.get("gift_vector") is not None:
        result["gift_vector"] = _axes(score["gift_vector"])
    elif product.get("axes"):
        raise InvalidResult("gift_vector was asked for and is missing", param="scores")
    return result


def _axes(vector: Any) -> dict[str, Any]:
    if not isinstance(vector, dict) or set(vector) != set(AXES):
        raise InvalidResult("gift_vector holds Gifty's ten axes, no more and no fewer", param="scores")
    for axis, value in vector.items():
        if axis == "age_suitability":
            good = value is None or isinstance(value, dict)
        else:
            good = value is None or (type(value) in (int, float) and 0 <= value <= 1)
        if not good:
            raise InvalidResult(f"gift_vector.{axis} is out of its range", param="scores")
    return {axis: vector[axis] for axis in AXES}


def _word(value: Any, field: str) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 200):
        return value
    raise InvalidResult(f"{field} is a short text", param=field)
