"""The engine of language models: what is asked, what an answer becomes, and one chance to mend it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gifty_compute.engines.llm import Answer, Llm
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.score import AXES

RECIPE = Recipe("scorer", "llm", frozenset({"llm", "score", "classify"}), source="acme/chat", revision="1")
SCORE = {"gift_score": 7, "reasoning": "Хороший подарок.", "tags": ["дача"]}
VECTOR = {axis: {"min": 3, "max": None} if axis == "age_suitability" else 0.5 for axis in AXES}


class Scripted:
    """Answers as written, in order; a tuple is a text and why it ended."""

    pass_tokens = 100

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.passes: list[list[dict[str, Any]]] = []

    def tokens(self, payload: dict[str, Any]) -> int:
        return 7

    def answers(self, payloads: Sequence[dict[str, Any]]) -> list[Answer]:
        self.passes.append(list(payloads))
        return [self._answer(self._answers.pop(0)) for _ in payloads]

    def _answer(self, said: Any) -> Answer:
        text, reason = said if isinstance(said, tuple) else (said, "stop")
        return Answer(text if isinstance(text, str) else json.dumps(text), reason, 10, 5)


def done(chat: Scripted, task_type: str, **payload: Any) -> dict[str, Any]:
    engine = Llm(RECIPE, chat)
    job = engine.prepare(task_type, payload)
    raw = job.finish(engine.forward(job.rows))
    return KINDS[task_type].check(payload, raw, Expected(model="scorer"))


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


def test_a_conversation_is_answered_with_what_it_took() -> None:
    chat = Scripted("Привет!")

    result = done(chat, "llm", messages=turns("Здравствуй"), system_prompt="Отвечай коротко")

    assert (result["content"], result["finish_reason"], result["model"]) == ("Привет!", "stop", "scorer")
    assert result["usage"] == {"input_tokens": 10, "output_tokens": 5}
    [[asked]] = chat.passes
    assert asked["messages"] == [{"role": "system", "content": "Отвечай коротко"}, *turns("Здравствуй")]


def test_json_comes_without_its_fence_and_the_schema_is_said_in_words() -> None:
    chat = Scripted('```json\n{"a": 1}\n```')

    result = done(chat, "llm", messages=turns("?"), json_schema={"type": "object"})

    assert json.loads(result["content"]) == {"a": 1}
    [[asked]] = chat.passes
    assert '{"type":"object"}' in asked["messages"][0]["content"]


def test_an_answer_that_is_no_json_is_asked_for_once_more() -> None:
    chat = Scripted("Конечно!", {"a": 1})

    result = done(chat, "llm", messages=turns("?"), json_mode=True)

    assert json.loads(result["content"]) == {"a": 1}
    assert result["usage"] == {"input_tokens": 20, "output_tokens": 10}
    [again] = chat.passes[1]
    assert [turn["role"] for turn in again["messages"]] == ["system", "user", "assistant", "user"]
    assert again["messages"][-1]["content"].startswith("That is wrong: ")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (("Конечно!", "Увы"), "wrong twice"),
        ((('{"a":', "length"),), "cut off by max_tokens"),
        ((("", "stop"),), "has no text"),
        ((("нет", "content_filter"),), "refused to answer"),
    ],
    ids=["wrong twice", "cut", "empty", "refused"],
)
def test_an_answer_that_is_none_fails_its_task(answers: tuple[Any, ...], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        done(Scripted(*answers), "llm", messages=turns("?"), json_mode=True)


def test_products_are_scored_one_a_row_with_the_axes_that_are_asked_for() -> None:
    chat = Scripted(SCORE, {**SCORE, "gift_vector": VECTOR})
    products = [{"id": 1, "title": "Плед"}, {"id": 2, "title": "Чай", "axes": True}]

    result = done(chat, "score", products=products)

    assert [score["gift_score"] for score in result["scores"]] == [7, 7]
    assert set(result["scores"][1]["gift_vector"]) == set(AXES)
    assert result["version"] == "acme/chat@1"
    assert len(chat.passes) == 1


def test_only_the_wrong_answers_of_a_pass_are_asked_for_again() -> None:
    chat = Scripted(SCORE, {**SCORE, "gift_score": 11}, SCORE, {**SCORE, "gift_score": 3})

    result = done(chat, "score", products=[{"title": str(n)} for n in range(3)])

    assert [score["gift_score"] for score in result["scores"]] == [7, 3, 7]
    assert [len(one) for one in chat.passes] == [3, 1]


def test_a_task_whose_answer_is_wrong_twice_does_not_fail_the_others_of_its_pass() -> None:
    engine = Llm(RECIPE, Scripted("soup", SCORE, "soup"))
    jobs = [engine.prepare("score", {"products": [{"title": title}]}) for title in ("яд", "чай")]

    bad, good = engine.forward([job.rows[0] for job in jobs])

    assert jobs[1].finish([good])["scores"] == [{**SCORE, "gift_score": 7.0}]
    with pytest.raises(EngineError, match="wrong twice"):
        jobs[0].finish([bad])


def test_names_are_sorted_into_categories_by_number() -> None:
    chat = Scripted({"answers": [{"name": 1, "category": 2, "confidence": 0.9}]})
    categories = [{"id": "a", "name": "Книги"}, {"id": "b", "name": "Чай"}]

    result = done(chat, "classify", external_names=["Пуэр"], internal_categories=categories)

    assert result["mappings"] == [{"external_name": "Пуэр", "internal_category_id": "b", "confidence": 0.9}]


def test_another_type_is_refused() -> None:
    with pytest.raises(EngineError, match="scorer does no tasks of type 'embedding'"):
        Llm(RECIPE, Scripted()).prepare("embedding", {"texts": ["чай"]})
