"""How a payload of each kind becomes an engine's calls, and its raw result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.base import work
from gifty_compute.errors import EngineError


class Noted:
    """An engine that notes what it was asked."""

    model, space, dim, kind = "m", "s", 2, "bi-encoder"

    def __init__(self) -> None:
        self.embedded: list[tuple[list[str], str]] = []

    def interruptible(self, checkpoint: Callable[[], None]) -> Noted:
        return self

    def embed(self, texts: Sequence[str], input_type: str) -> Any:
        self.embedded.append((list(texts), input_type))
        return np.ones((len(texts), 2), np.float32)

    def tokens(self, texts: Sequence[str], input_type: str) -> int:
        return len(texts) * (100 if input_type == "query" else 1)

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        return [float(len(document)) for document in documents]

    def classify(self, names: Sequence[str], labels: Sequence[str]) -> list[tuple[int, float]]:
        return [(len(labels) - 1, 0.123456) for _ in names]


@pytest.mark.parametrize(
    ("payload", "input_type"),
    [({}, "passage"), ({"input_type": None}, "passage"), ({"input_type": "query"}, "query")],
)
def test_texts_are_embedded_as_passages_unless_said_otherwise(
    payload: dict[str, Any], input_type: str
) -> None:
    engine = Noted()

    work(engine, "embedding", {"texts": ["чай", "мёд"], **payload})

    assert engine.embedded == [(["чай", "мёд"], input_type)]


def test_an_embeddings_result_names_model_space_dimension_and_tokens() -> None:
    result = work(Noted(), "embedding", {"texts": ["чай", "мёд"], "ids": [7, "b"]})

    assert result.pop("embeddings").shape == (2, 2)
    assert result == {
        "model": "m",
        "space": "s",
        "dim": 2,
        "ids": [7, "b"],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }


def test_a_reranks_result_says_how_it_was_scored_and_counts_the_query() -> None:
    result = work(Noted(), "rerank", {"query": "q", "documents": ["a", "bbb"]})

    assert result == {
        "scores": [1.0, 3.0],
        "kind": "bi-encoder",
        "model": "m",
        "usage": {"prompt_tokens": 102, "total_tokens": 102},
    }


def test_a_classifications_result_gives_the_callers_own_ids_back() -> None:
    categories = [{"id": 5, "name": "Книги"}, {"id": "tea", "name": "Чай"}]

    result = work(Noted(), "classify", {"external_names": ["Улун"], "internal_categories": categories})

    assert result == {
        "mappings": [{"external_name": "Улун", "internal_category_id": "tea", "confidence": 0.1235}],
        "kind": "bi-encoder",
        "model": "m",
    }


@pytest.mark.parametrize("task_type", ["score", "llm", "soup"])
def test_a_type_that_no_engine_does_is_an_error(task_type: str) -> None:
    with pytest.raises(EngineError, match=repr(task_type)):
        work(Noted(), task_type, {})
