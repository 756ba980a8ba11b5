"""The rules that a classification's result must keep, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.classify import check_classify
from gifty_compute.wire.expected import Expected

EXPECTED = Expected(model="m", aliases=frozenset({"acme/m"}), min_confidence=0.4)
PAYLOAD = {
    "external_names": ["Мячи", "Чай"],
    "internal_categories": [{"id": 1, "name": "Спорт"}, {"id": "food", "name": "Еда"}],
}


def mapping(name: str, chosen: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"external_name": name, "internal_category_id": chosen, **fields}


def check(second: Any, **raw: Any) -> Any:
    """What becomes of the second mapping, beside a good first one."""
    return check_classify(PAYLOAD, {"mappings": [mapping("Мячи"), second], **raw}, EXPECTED)


def refused(second: Any, **raw: Any) -> InvalidResult:
    with pytest.raises(InvalidResult) as caught:
        check(second, **raw)
    return caught.value


def test_a_mapping_a_name_in_order_is_taken() -> None:
    checked = check(mapping("Чай", "food", confidence=0.9), model="acme/m", kind="bi-encoder")

    assert checked == {
        "mappings": [
            {"external_name": "Мячи", "internal_category_id": 1, "confidence": None},
            {"external_name": "Чай", "internal_category_id": "food", "confidence": 0.9},
        ],
        "model": "m",
        "kind": "bi-encoder",
    }


@pytest.mark.parametrize(
    ("confidence", "chosen"), [(0.39, None), (0.4, "food"), (1, "food"), (0, None), (None, "food")]
)
def test_an_id_under_the_least_confidence_becomes_null(confidence: Any, chosen: Any) -> None:
    second = check(mapping("Чай", "food", confidence=confidence))["mappings"][1]

    assert second == {"external_name": "Чай", "internal_category_id": chosen, "confidence": confidence}


def test_a_name_may_have_no_category() -> None:
    assert check(mapping("Чай", None))["mappings"][1]["internal_category_id"] is None


@pytest.mark.parametrize("raw", [{}, {"kind": None}])
def test_the_way_of_classifying_is_left_out_when_it_is_not_said(raw: dict[str, Any]) -> None:
    assert "kind" not in check(mapping("Чай"), **raw)


def test_what_else_a_mapping_says_is_dropped() -> None:
    second = check(mapping("Чай", "food", reason="\x00"))["mappings"][1]

    assert set(second) == {"external_name", "internal_category_id", "confidence"}


@pytest.mark.parametrize("mappings", [None, [], [mapping("Мячи")], "ab", {"0": 1, "1": 2}, 5])
def test_one_mapping_a_name_is_asked_for(mappings: Any) -> None:
    with pytest.raises(InvalidResult, match="mappings must be 2"):
        check_classify(PAYLOAD, {"mappings": mappings}, EXPECTED)


@pytest.mark.parametrize(
    "second", [None, 5, "Чай", [], {}, mapping("чай"), mapping("Мячи"), {"internal_category_id": 1}]
)
def test_each_mapping_answers_its_own_name(second: Any) -> None:
    assert refused(second).param == "mappings"


@pytest.mark.parametrize("chosen", [2, "1", "Спорт", True, 1.0, [1], {}, ""])
def test_an_id_that_was_not_sent_is_refused(chosen: Any) -> None:
    assert refused(mapping("Чай", chosen)).message == "internal_category_id is none of those sent"


@pytest.mark.parametrize(
    "confidence",
    [-0.1, 1.1, "0.5", True, float("nan"), float("inf"), [0.5], pytest.param(10**400, id="10**400")],
)
def test_a_confidence_is_a_number_from_0_to_1(confidence: Any) -> None:
    assert refused(mapping("Чай", 1, confidence=confidence)).message == "confidence is a number from 0 to 1"


@pytest.mark.parametrize("kind", ["guess", "", "\x00", "\ud800", 5, ["bi-encoder"], {}])
def test_another_kind_of_classifying_is_refused(kind: Any) -> None:
    assert refused(mapping("Чай"), kind=kind).param == "kind"


@pytest.mark.parametrize("model", ["other", "", 5, ["m"], {}])
def test_another_model_is_refused(model: Any) -> None:
    assert refused(mapping("Чай"), model=model).param == "model"


def test_a_field_that_no_classification_has_is_refused() -> None:
    assert refused(mapping("Чай"), scores=[]).param == "scores"
