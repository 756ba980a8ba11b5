"""The rules that a rerank's result must keep, one by one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.rerank import check_rerank

EXPECTED = Expected(model="reranker", aliases=frozenset({"acme/reranker"}))
PAYLOAD = {"query": "чай", "documents": ["мёд", "кружка"]}


def refused(**raw: Any) -> InvalidResult:
    with pytest.raises(InvalidResult) as caught:
        check_rerank(PAYLOAD, {"scores": [0.5, 0.1], **raw}, EXPECTED)
    return caught.value


def test_scores_stay_in_the_order_of_the_documents() -> None:
    checked = check_rerank(PAYLOAD, {"scores": [-3.5, 12], "model": "acme/reranker", "usage": {}}, EXPECTED)

    assert checked == {"scores": [-3.5, 12], "model": "reranker", "kind": "unknown"}


@pytest.mark.parametrize("kind", ["cross-encoder", "bi-encoder"])
def test_how_it_was_scored_comes_along(kind: str) -> None:
    assert check_rerank(PAYLOAD, {"scores": [1, 0], "kind": kind}, EXPECTED)["kind"] == kind


@pytest.mark.parametrize("scores", [None, [], [0.5], [0.5, 0.1, 0.2], "ab", {"0": 1, "1": 2}, (0.5, 0.1), 5])
def test_one_score_a_document_is_asked_for(scores: Any) -> None:
    error = refused(scores=scores)

    assert (error.param, error.message) == ("scores", "scores must be 2 numbers")


@pytest.mark.parametrize(
    "score",
    [
        None,
        "0.5",
        True,
        [0.5],
        {},
        float("nan"),
        float("inf"),
        float("-inf"),
        pytest.param(10**400, id="10**400"),
    ],
)
def test_a_score_is_a_finite_number(score: Any) -> None:
    error = refused(scores=[0.5, score])

    assert (error.param, error.message) == ("scores", "a score is not a finite number")


@pytest.mark.parametrize("score", [2**70, 1.7e308, -0.0, 5e-324])
def test_whatever_score_is_taken_can_be_written_as_json(score: Any) -> None:
    checked = check_rerank(PAYLOAD, {"scores": [score, 0]}, EXPECTED)

    assert orjson.loads(orjson.dumps(checked))["scores"] == [float(score), 0.0]


@pytest.mark.parametrize("kind", ["guess", "", None, 5, ["bi-encoder"], {}])
def test_another_kind_of_scoring_is_refused(kind: Any) -> None:
    assert refused(kind=kind).param == "kind"


@pytest.mark.parametrize("model", ["other", "", 5, ["reranker"], {}])
def test_another_model_is_refused(model: Any) -> None:
    assert refused(model=model).param == "model"


def test_a_field_that_no_rerank_has_is_refused() -> None:
    assert refused(results=[]).param == "results"


def test_a_result_without_scores_is_refused() -> None:
    with pytest.raises(InvalidResult):
        check_rerank(PAYLOAD, {}, EXPECTED)
