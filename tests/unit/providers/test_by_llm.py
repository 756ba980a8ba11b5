"""Classification and scoring by a language model: what it is asked, and how its answers are mended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.providers import by_llm
from gifty_compute.providers.base import Ask, Reply, Usage
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.score import AXES
from tests.unit.providers.scripted import asking

CATEGORIES = [{"id": "fish", "name": "Рыбалка"}, {"id": 7, "name": "Книги"}]
EXPECTED = Expected(model="m")


USED = Usage(10, 5)


class Model:
    """Answers as written, one after the other."""

    def __init__(self, *answers: Any, usage: Usage | None = USED, cost: float | None = 0.01) -> None:
        self._answers, self._usage, self._cost = list(answers), usage, cost
        self.asks: list[Ask] = []

    def run(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        answer = self._answers.pop(0)
        content = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return Reply({"content": content, "finish_reason": "stop"}, self._usage, self._cost)


def classify(model: Model, *names: str) -> Reply:
    payload = {"external_names": list(names), "internal_categories": CATEGORIES}
    return by_llm.run(model, "classify", asking("groq", "llm", payload))


def sorted_as(*rows: tuple[int, int | None, float]) -> dict[str, Any]:
    return {"answers": [{"name": n, "category": c, "confidence": f} for n, c, f in rows]}


def test_names_and_categories_go_by_numbers_and_come_back_as_what_they_are() -> None:
    model = Model(sorted_as((2, None, 0.2), (1, 1, 0.9)))

    reply = classify(model, "Удочки", "Болты")

    assert reply.result == {
        "mappings": [
            {"external_name": "Удочки", "internal_category_id": "fish", "confidence": 0.9},
            {"external_name": "Болты", "internal_category_id": None, "confidence": 0.2},
        ]
    }
    payload = model.asks[0].payload
    assert json.loads(payload["messages"][0]["content"]) == {
        "names": {"1": "Удочки", "2": "Болты"},
        "categories": {"1": "Рыбалка", "2": "Книги"},
    }
    assert "never instructions" in payload["system_prompt"]
    assert "Удочки" not in payload["system_prompt"]


def test_many_names_are_several_calls_whose_costs_add_up() -> None:
    names = [f"Имя {n}" for n in range(70)]
    model = Model(
        sorted_as(*((n, 1, 1.0) for n in range(1, 51))), sorted_as(*((n, 2, 1.0) for n in range(1, 21)))
    )

    reply = classify(model, *names)

    assert [row["external_name"] for row in reply.result["mappings"]] == names
    assert (reply.usage, reply.cost_usd) == (Usage(20, 10), pytest.approx(0.02))


WRONG: dict[str, Any] = {
    "no JSON": "Конечно! Вот ответ",
    "a number too large": sorted_as((1, 3, 0.9)),
    "a name of its own": sorted_as((2, 1, 0.9)),
    "a name twice": sorted_as((1, 1, 0.9), (1, 2, 0.9)),
    "nothing": {"answers": []},
    "too sure": sorted_as((1, 1, 1.5)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_shown_to_the_model_once(name: str) -> None:
    model = Model(WRONG[name], sorted_as((1, 1, 0.9)))

    reply = classify(model, "Удочки")

    assert reply.result["mappings"][0]["internal_category_id"] == "fish"
    assert reply.usage == Usage(20, 10)
    turns = model.asks[1].payload["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[2]["content"].startswith("That is wrong: ")


def test_two_wrong_answers_are_the_end() -> None:
    model = Model("нет", "всё ещё нет")

    with pytest.raises(ProviderError) as caught:
        classify(model, "Удочки")

    assert (caught.value.failure, caught.value.code) == (Failure.FAILOVER, "bad_answer")
    assert len(model.asks) == 2


def test_what_one_of_the_calls_does_not_tell_stays_unknown() -> None:
    reply = classify(Model(sorted_as((1, 1, 0.9)), usage=None, cost=None), "Удочки")

    assert (reply.usage, reply.cost_usd) == (None, None)


def test_a_products_score_is_checked_like_everybodys() -> None:
    model = Model({"gift_score": 8.5, "reasoning": "Рыбак обрадуется.", "tags": ["рыбалка"]})
    payload = {"products": [{"id": "x", "title": "Удочка", "price": 900}]}

    reply = by_llm.run(model, "score", asking("groq", "llm", payload))
    checked = KINDS["score"].check(payload, reply.result, EXPECTED)

    assert checked["scores"] == [
        {"id": "x", "gift_score": 8.5, "reasoning": "Рыбак обрадуется.", "tags": ["рыбалка"]}
    ]
    assert json.loads(model.asks[0].payload["messages"][0]["content"]) == {"title": "Удочка", "price": 900}


def test_the_ten_axes_are_asked_for_only_where_they_are_wanted() -> None:
    vector = dict.fromkeys(AXES, 0.5) | {"age_suitability": {"min": 12, "max": None}, "romance": None}
    model = Model({"gift_score": 5, "reasoning": "да", "tags": [], "gift_vector": vector})
    payload = {"products": [{"title": "Удочка", "axes": True}]}

    reply = by_llm.run(model, "score", asking("groq", "llm", payload))

    checked = KINDS["score"].check(payload, reply.result, EXPECTED)
    assert checked["scores"][0]["gift_vector"] == vector
    assert "gift_vector" in model.asks[0].payload["json_schema"]["properties"]


def test_the_schema_holds_nothing_that_a_provider_refuses() -> None:
    model = Model(sorted_as((1, 1, 0.9)))

    classify(model, "Удочки")

    schema = json.dumps(model.asks[0].payload["json_schema"])
    assert not any(word in schema for word in ("minimum", "maximum", "minLength", "maxItems"))
    assert schema.count('"additionalProperties": false') == schema.count('"type": "object"')
