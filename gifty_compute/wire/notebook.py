"""What Gifty's older notebooks speak: products and names one by one, between tasks and their lists."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, RootModel

from gifty_compute.errors import InvalidRequest
from gifty_compute.wire.body import Body, Many
from gifty_compute.wire.scale import Scale
from gifty_compute.wire.score import AXES, MAX_SCORE
from gifty_compute.wire.task import Task
from gifty_compute.wire.text import CleanText, SmallObject

__all__ = [
    "CategoriesSubmit",
    "CategoryTask",
    "CategoryTasks",
    "ScoringSubmit",
    "ScoringTask",
    "ScoringTasks",
    "Submitted",
    "categories_of",
    "gifts_of",
    "mappings_for",
    "scores_for",
    "task_ids_in",
]

_TOP = {"1": 1.0, "0-1": 1.0, "10": 10.0, "0-10": 10.0}
# What the published scorer says, with a score of 5.0, where it could not read its model's answer.
_NO_ANSWER = "Ошибка анализа"
_MADE_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):\d{1,3}")


class ScoringTask(BaseModel):
    """A product to score."""

    gift_id: str
    title: str
    category: str | None
    merchant: str | None
    price: float | str | None
    image_url: str | None
    content_text: str | None


class ScoringTasks(RootModel[list[ScoringTask]]):
    """A bare list of products to score."""


class CategoryTask(BaseModel):
    """A shop's category to find one of Gifty's for."""

    external_name: str


class CategoryTasks(RootModel[list[CategoryTask]]):
    """A bare list of categories."""


class Submitted(BaseModel):
    """How many results were taken."""

    status: Literal["ok"]
    updated: int


# A model's own JSON may have its number in quotes, and the notebooks hand it on.
_Quoted = Annotated[str, Field(pattern=r"^-?[0-9]+([.][0-9]+)?$")]


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value, re.A) else value


class _Score(Body):
    gift_id: CleanText
    llm_gift_score: Annotated[float, BeforeValidator(_number, json_schema_input_type=float | _Quoted)]
    llm_gift_reasoning: CleanText
    llm_gift_vector: SmallObject | None = None
    llm_scoring_model: CleanText
    llm_scoring_version: CleanText


class ScoringSubmit(Body):
    """The body of POST /internal/scoring/submit."""

    results: Many[_Score] = Field(max_length=1000)


class _Mapping(Body):
    external_name: CleanText
    internal_category_id: int | CleanText | None = None


class CategoriesSubmit(Body):
    """The body of POST /internal/categories/submit."""

    results: Many[_Mapping] = Field(max_length=10_000)


def gift_ids(task: Task) -> list[str]:
    """What each product of a score task is called here: its own id, else one that leads to its place."""
    products = task.payload["products"]
    return [
        str(product["id"]) if product.get("id") is not None else f"{task.id}:{place}"
        for place, product in enumerate(products)
    ]


def gifts_of(task: Task) -> list[ScoringTask]:
    """The products of a score task, as notebooks read them."""
    names = set(ScoringTask.model_fields) - {"gift_id", "content_text"}
    return [
        ScoringTask(
            gift_id=gift_id,
            content_text=product.get("content_text") or product.get("description"),
            **{name: product.get(name) for name in names},
        )
        for gift_id, product in zip(gift_ids(task), task.payload["products"], strict=True)
    ]


def task_ids_in(body: ScoringSubmit) -> list[UUID]:
    """The tasks that are named by ids which were made here."""
    found = (_MADE_ID.fullmatch(result.gift_id) for result in body.results)
    return sorted({UUID(match[1]) for match in found if match})


def scores_for(task: Task, body: ScoringSubmit, scale: Scale) -> dict[str, Any] | None:
    """The raw result of this score task; None where a product of it is not among the results.

    Raises InvalidRequest for a score that is not on the scale.
    """
    by_gift = {
        result.gift_id: (place, result)
        for place, result in enumerate(body.results)
        if result.llm_gift_reasoning.strip() != _NO_ANSWER
    }
    ids = gift_ids(task)
    if not all(gift_id in by_gift for gift_id in ids):
        return None
    scored = [by_gift[gift_id] for gift_id in ids]
    return {
        "scores": [_score(place, result, _TOP[scale]) for place, result in scored],
        "model": scored[0][1].llm_scoring_model,
        "version": scored[0][1].llm_scoring_version,
    }


def _score(place: int, result: _Score, top: float) -> dict[str, Any]:
    if not (math.isfinite(result.llm_gift_score) and 0 <= result.llm_gift_score <= top):
        field = f"results.{place}.llm_gift_score"
        raise InvalidRequest(f"{field}: the scale is 0 to {top:g}; ?score_scale= states it", param=field)
    score = {
        "gift_score": result.llm_gift_score * MAX_SCORE / top,
        "reasoning": result.llm_gift_reasoning,
        "tags": [],
    }
    vector = None if result.llm_gift_vector is None else _axes(result.llm_gift_vector)
    return score if vector is None else {**score, "gift_vector": vector}


def _axes(vector: Mapping[str, Any]) -> dict[str, Any]:
    """Gifty's ten axes of what a notebook calls its vector; what it does not say is null, never guessed.

    The published notebook of the ten axes sends its model's whole answer: eight numbers under `scores`, and
    `demographics` with a gender in words, which is no number, and two ages.
    """
    numbers = vector.get("scores", vector)
    if not isinstance(numbers, dict) or not set(AXES) & set(numbers):
        return dict(vector)  # None of Gifty's axes: the check of the result says so.
    found = {axis: numbers.get(axis) for axis in AXES}
    people = vector.get("demographics")
    if found["age_suitability"] is None and isinstance(people, dict):
        ages = {name: people[name] for name in ("age_min", "age_max") if people.get(name) is not None}
        found["age_suitability"] = ages or None
    return found


def categories_of(task: Task) -> list[CategoryTask]:
    """The names of a classify task, as notebooks read them."""
    return [CategoryTask(external_name=name) for name in task.payload["external_names"]]


def mappings_for(task: Task, body: CategoriesSubmit) -> dict[str, Any]:
    """The raw result of this classify task, of which at least one name is among the results.

    A name that a notebook leaves out is one that it found no category for: its id is null. Nobody stated
    any confidence.
    """
    by_name = {result.external_name: result.internal_category_id for result in body.results}
    return {
        "mappings": [
            {"external_name": name, "internal_category_id": by_name.get(name), "confidence": None}
            for name in task.payload["external_names"]
        ]
    }
