"""How a payload of each kind becomes rows, and their outputs its raw result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.base import Job, Row
from gifty_compute.engines.encoding import bi_encoder_job, cross_encoder_job
from gifty_compute.errors import EngineError

CATEGORIES = [{"id": 5, "name": "Книги"}, {"id": "tea", "name": "Чай"}]


class TwoTowers:
    """A query costs 100 tokens, a passage one; what it was given can be seen in the rows."""

    model, space, dim = "m", "s", 2

    def rows(self, texts: Sequence[str], input_type: str) -> list[Row]:
        return [Row(100 if input_type == "query" else 1, (text, input_type)) for text in texts]


class OneTower:
    model = "x"

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Row]:
        return [Row(7, pair) for pair in pairs]


def finished(job: Job, outputs: Sequence[Any]) -> dict[str, Any]:
    return job.finish(outputs)


@pytest.mark.parametrize(
    ("payload", "input_type"),
    [({}, "passage"), ({"input_type": None}, "passage"), ({"input_type": "query"}, "query")],
)
def test_texts_are_embedded_as_passages_unless_said_otherwise(
    payload: dict[str, Any], input_type: str
) -> None:
    job = bi_encoder_job(TwoTowers(), "embedding", {"texts": ["чай", "мёд"], **payload})

    assert [row.content for row in job.rows] == [("чай", input_type), ("мёд", input_type)]


def test_an_embeddings_result_names_model_space_dimension_and_tokens() -> None:
    job = bi_encoder_job(TwoTowers(), "embedding", {"texts": ["чай", "мёд"], "ids": [7, "b"]})

    result = finished(job, [[1, 0], [0, 1]])

    vectors = result.pop("embeddings")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.eye(2))
    assert result == {
        "model": "m",
        "space": "s",
        "dim": 2,
        "ids": [7, "b"],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("job", [bi_encoder_job(TwoTowers(), "embedding", {"texts": ["чай"]})])
def test_a_number_that_is_none_is_never_a_result(job: Job, bad: float) -> None:
    with pytest.raises(EngineError, match="m gave a vector that is not finite"):
        job.finish([[1, bad]])


def test_a_bi_encoders_rerank_is_the_cosine_of_query_and_document() -> None:
    job = bi_encoder_job(TwoTowers(), "rerank", {"query": "q", "documents": ["a", "b"]})

    assert [row.content for row in job.rows] == [("q", "query"), ("a", "passage"), ("b", "passage")]
    assert finished(job, [[1, 0], [0.6, 0.8], [1, 0]]) == {
        "scores": [pytest.approx(0.6), 1.0],
        "kind": "bi-encoder",
        "model": "m",
        "usage": {"prompt_tokens": 102, "total_tokens": 102},
    }


def test_a_bi_encoder_classifies_by_the_nearest_label_and_gives_the_callers_own_ids_back() -> None:
    payload = {"external_names": ["Улун", "Поэзия"], "internal_categories": CATEGORIES}
    job = bi_encoder_job(TwoTowers(), "classify", payload)

    assert {row.content[1] for row in job.rows} == {"query"}
    result = finished(job, [[0, 1], [1, 0], [1, 0], [0.05, 0.99]])
    assert [one["internal_category_id"] for one in result["mappings"]] == ["tea", 5]
    assert all(0.5 < one["confidence"] <= 1 for one in result["mappings"])
    assert (result["kind"], result["model"]) == ("bi-encoder", "m")


def test_a_cross_encoder_reads_the_query_with_each_document_and_keeps_the_order_of_good_ones() -> None:
    job = cross_encoder_job(OneTower(), "rerank", {"query": "q", "documents": ["a", "b", "c"]})

    assert [row.content for row in job.rows] == [("q", "a"), ("q", "b"), ("q", "c")]
    scores = finished(job, [np.float32(20), np.float32(21), np.float32(-800)])["scores"]
    # In float32 both of the good ones would be 1.
    assert scores[2] == 0 < scores[0] < scores[1] < 1


def test_a_cross_encoder_classifies_by_the_likeliest_label() -> None:
    payload = {"external_names": ["Улун"], "internal_categories": CATEGORIES}
    job = cross_encoder_job(OneTower(), "classify", payload)

    assert [row.content for row in job.rows] == [("Улун", "Книги"), ("Улун", "Чай")]
    assert finished(job, [-3.0, 0.0]) == {
        "mappings": [{"external_name": "Улун", "internal_category_id": "tea", "confidence": 0.5}],
        "kind": "cross-encoder",
        "model": "x",
    }
    with pytest.raises(EngineError, match="not finite"):
        finished(job, [math.nan, 0.0])


@pytest.mark.parametrize("task_type", ["score", "llm", "soup"])
def test_a_type_that_no_encoder_does_is_an_error(task_type: str) -> None:
    with pytest.raises(EngineError, match=repr(task_type)):
        bi_encoder_job(TwoTowers(), task_type, {})
    with pytest.raises(EngineError, match=repr(task_type)):
        cross_encoder_job(OneTower(), task_type, {})
