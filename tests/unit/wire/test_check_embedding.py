"""The rules that an embedding's result must keep, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.embedding import check_embedding
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.vectors import encode

EXPECTED = Expected(model="bge-m3", space="bge-m3-space", dim=2, aliases=frozenset({"BAAI/bge-m3"}))
PAYLOAD = {"texts": ["чай", "мёд"], "ids": ["a", 2]}
ROWS = [[0.6, 0.8], [1.0, 0.0]]


def refused(**raw: Any) -> InvalidResult:
    with pytest.raises(InvalidResult) as caught:
        check_embedding(PAYLOAD, {"embeddings": ROWS, **raw}, EXPECTED)
    return caught.value


def test_a_bare_result_is_of_the_tasks_own_model_and_space() -> None:
    checked = check_embedding({"texts": ["чай", "мёд"]}, {"embeddings": ROWS}, EXPECTED)

    np.testing.assert_array_equal(checked.pop("embeddings"), np.array(ROWS, "<f4"))
    assert checked == {"model": "bge-m3", "space": "bge-m3-space", "dim": 2}


def test_a_full_result_says_the_same_in_its_own_words() -> None:
    raw = {
        "embeddings": encode(np.array(ROWS, np.float16)),
        "ids": ["a", 2],
        "model": "BAAI/bge-m3",
        "space": "bge-m3-space",
        "dim": 2,
        "usage": {"prompt_tokens": 7},
    }

    checked = check_embedding(PAYLOAD, raw, EXPECTED)

    assert checked.pop("embeddings").dtype == np.float16
    assert checked == {"ids": ["a", 2], "model": "bge-m3", "space": "bge-m3-space", "dim": 2}


def test_the_tasks_ids_come_along_when_the_result_leaves_them_out() -> None:
    assert check_embedding(PAYLOAD, {"embeddings": ROWS}, EXPECTED)["ids"] == ["a", 2]


def test_without_a_known_space_the_result_names_none() -> None:
    unknown = Expected(model="bge-m3")

    assert "space" not in check_embedding(PAYLOAD, {"embeddings": ROWS}, unknown)


@pytest.mark.parametrize("model", ["bge-m4", "BGE-M3", "", 5, True, ["bge-m3"], {"bge-m3": 1}])
def test_another_model_is_refused(model: Any) -> None:
    assert refused(model=model).param == "model"


@pytest.mark.parametrize("space", ["bge-m3", "", 5, ["bge-m3-space"], {}])
def test_another_space_is_refused(space: Any) -> None:
    assert refused(space=space).param == "space"


@pytest.mark.parametrize("dim", [3, 0, -2, "2", True, [2]])
def test_a_dimension_that_does_not_fit_is_refused(dim: Any) -> None:
    assert refused(dim=dim).param == "dim"


@pytest.mark.parametrize("ids", [[], ["a"], [2, "a"], ["a", "2"], "a2", {"a": 2}])
def test_ids_that_are_not_the_tasks_in_their_order_are_refused(ids: Any) -> None:
    assert refused(ids=ids).param == "ids"


def test_ids_for_a_task_without_ids_are_refused() -> None:
    with pytest.raises(InvalidResult) as caught:
        check_embedding({"texts": ["чай", "мёд"]}, {"embeddings": ROWS, "ids": ["a", 2]}, EXPECTED)

    assert caught.value.param == "ids"


@pytest.mark.parametrize(
    "embeddings",
    [
        None,
        [],
        ROWS[:1],
        [*ROWS, [1.0, 1.0]],
        [[1.0], [2.0]],
        [[1.0, 2.0], [1.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [float("nan"), 0.0]],
        [[1.0, 0.0], [1e39, 0.0]],
        [[1.0, 0.0], ["1", 0.0]],
    ],
    ids=repr,
)
def test_vectors_that_break_a_rule_are_refused(embeddings: Any) -> None:
    assert refused(embeddings=embeddings).param == "embeddings"


def test_a_field_that_no_embedding_has_is_refused_and_cut_in_the_message() -> None:
    error = refused(**{"s" * 500: [1]})

    assert error.param == "s" * 40
    assert len(error.message) < 120


def test_a_result_without_vectors_is_refused() -> None:
    with pytest.raises(InvalidResult):
        check_embedding(PAYLOAD, {}, EXPECTED)
