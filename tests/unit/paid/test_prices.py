"""The most that a paid task can cost: what is set aside for it must not be less than it costs."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.logic.logic import Offer
from gifty_compute.logic.source import parse_logic
from gifty_compute.paid.prices import bound_usd
from gifty_compute.wire.questions import questions

LOGIC = parse_logic(
    """
    llm: {default_provider: groq}
    classify: {providers: [groq]}
    score: {providers: [groq]}
    providers: {groq: {price: {input_per_million: 1000000, output_per_million: 1000000}}}
    """
)
PRODUCTS = {"products": [{"title": f"Набор {number}"} for number in range(20)], "model": "gift-scorer"}
NAMES = {
    "external_names": [f"Удочки {number}" for number in range(120)],
    "internal_categories": [{"id": 1, "name": "Рыбалка"}],
    "model": "bge-reranker-v2-m3",
}


def offer(kind: str) -> Offer:
    [found] = LOGIC.offers(kind, LOGIC.model(kind, None))
    return found


@pytest.mark.parametrize(("kind", "payload"), [("score", PRODUCTS), ("classify", NAMES)])
def test_every_question_of_a_task_is_in_its_bound_and_asked_twice(kind: str, payload: dict[str, Any]) -> None:
    """K9: repairs. 1024 tokens were set aside for twenty scores, each of which may take 2200, twice."""
    asked = [question.payload for question in questions(kind, payload)]

    assert len(asked) > 2
    assert bound_usd(offer(kind), kind, payload) > 2 * 2 * sum(one["max_tokens"] for one in asked)


def test_a_chat_is_bound_by_its_own_cap() -> None:
    chat = {"messages": [{"role": "user", "content": "чай"}], "max_tokens": 10, "model": "fast"}

    assert bound_usd(offer("llm"), "llm", {**chat, "max_tokens": 500}) == (
        bound_usd(offer("llm"), "llm", chat) + 2 * 490
    )
