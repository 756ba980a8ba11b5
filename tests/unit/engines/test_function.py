"""A function that a worker names does the tasks of a declared type."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe
from tests.unit.conftest import HandClock

HERE = "tests.unit.engines.test_function"


def upper(payload: dict[str, Any]) -> Any:
    """The handler of these tests."""
    if payload["text"] == "яд":
        raise ValueError("poison")
    return {"text": payload["text"].upper()} if payload["text"] else None


def shelf(handler: str | None = f"{HERE}:upper") -> EngineShelf:
    return EngineShelf(lambda model: Recipe(model, "function", frozenset({"ocr"}), handler=handler))


def test_the_result_is_what_the_function_returns_and_a_failure_is_its_own_tasks(clock: HandClock) -> None:
    inference = Inference(shelf(), clock)
    try:
        texts = ["чай", "яд", "мёд", ""]
        futures = [inference.submit("ocr", "ocr", {"text": text}) for text in texts]
        good = [futures[place].result(10) for place in (0, 2)]
        poison, nothing = futures[1].exception(10), futures[3].exception(10)
    finally:
        inference.close()

    assert good == [{"text": "ЧАЙ"}, {"text": "МЁД"}]
    assert isinstance(poison, ValueError)
    assert str(nothing) == f"{HERE}:upper returned NoneType, a result is a dict"


def test_its_engine_says_which_function_it_is() -> None:
    assert shelf().get("ocr").revision == f"{HERE}:upper"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (None, "a handler is named module:function"),
        ("upper", "a handler is named module:function"),
        ("nowhere_to_be_found:upper", "cannot be imported: No module named"),
        (f"{HERE}:lower", "cannot be imported: .*has no attribute 'lower'"),
        (f"{HERE}:HERE", "is no function"),
    ],
)
def test_a_handler_that_is_not_there_is_named(handler: str | None, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        shelf(handler).get("ocr")


def test_a_type_that_it_was_not_named_for_is_refused() -> None:
    with pytest.raises(EngineError, match="does no tasks of type 'llm'"):
        shelf().get("ocr").prepare("llm", {})
