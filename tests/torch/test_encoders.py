"""The engine torch, on tiny models of the real architectures: nothing is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.engines.torch import open_model
from gifty_compute.errors import EngineError, OutOfMemory
from gifty_compute.logic.file import SpaceSection
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from tests.torch import tiny

TEXTS = ["чай", "мёд плед кофе", "подарок бабушке чай чай чай мёд", "плед"]
SPACE = SpaceSection(
    dim=tiny.DIM, revision="acme/tiny@1", pooling="cls", normalized=True, quantization="none"
)


def bi_encoder(directory: Path | None, **space: Any) -> Recipe:
    return Recipe(
        "tiny",
        "torch",
        frozenset({"embedding", "rerank", "classify"}),
        space_name="tiny",
        space=SPACE.model_copy(update=space),
        source="acme/tiny",
        revision="1",
        directory=directory,
    )


def pair_encoder(directory: Path) -> Recipe:
    return Recipe("reranker", "torch", frozenset({"rerank", "classify"}), directory=directory)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.classifier(tmp_path_factory.mktemp("reranker"))


def done(engine: Any, task_type: str, **payload: Any) -> dict[str, Any]:
    job = engine.prepare(task_type, payload)
    result: dict[str, Any] = job.finish(engine.forward(job.rows))
    return result


# -- vectors -------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_sentence_transformers_itself(directory: Path) -> None:
    engine = EngineShelf(lambda _: bi_encoder(directory)).get("tiny")

    result = done(engine, "embedding", texts=TEXTS)

    theirs = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(result["embeddings"], theirs, atol=1e-5)
    assert (result["space"], result["dim"]) == ("tiny", tiny.DIM)


def test_a_row_counts_its_true_tokens_and_is_cut_at_what_the_model_reads(directory: Path) -> None:
    rows = open_model(bi_encoder(directory)).rows(["чай", "мёд плед", "чай " * 500], "passage")

    assert [row.tokens for row in rows] == [3, 4, tiny.MAX_TOKENS]


def test_prefixes_of_the_space_are_put_before_texts(directory: Path) -> None:
    plain, prefixed = (
        open_model(bi_encoder(directory, prefixes=prefixes)) for prefixes in ({}, {"query": "подарок "})
    )

    np.testing.assert_allclose(
        prefixed.forward(prefixed.rows(["чай"], "query")),
        plain.forward(plain.rows(["подарок чай"], "query")),
        atol=1e-6,
    )
    assert [row.tokens for row in prefixed.rows(["чай"], "passage")] == [3]


@pytest.mark.parametrize(
    ("named", "other"), [("dim", 64), ("pooling", "mean"), ("normalized", False), ("revision", "acme/tiny@2")]
)
def test_a_model_that_is_not_of_its_space_is_refused(directory: Path, named: str, other: object) -> None:
    with pytest.raises(EngineError, match=f"tiny: {named} is .*its vectors would not compare"):
        open_model(bi_encoder(directory, **{named: other}))


def test_a_model_that_nobody_pinned_is_refused() -> None:
    recipe = replace(DEFAULT_LOGIC.recipe("bge-m3"), revision=None)

    with pytest.raises(EngineError, match="bge-m3 needs `source` and `revision`"):
        open_model(recipe)


def test_the_configured_models_are_pinned_and_of_their_spaces() -> None:
    recipe = DEFAULT_LOGIC.recipe("bge-m3")

    assert recipe.space is not None
    assert recipe.identity == recipe.space.revision
    assert len(str(DEFAULT_LOGIC.recipe("bge-reranker-v2-m3").revision)) == 40


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(EngineError, match="empty could not be loaded"):
        open_model(bi_encoder(tmp_path / "empty"))


@pytest.mark.parametrize(
    "raised", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 1 bytes")]
)
def test_a_pass_for_which_there_is_no_memory_is_told_apart(
    directory: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    engine = open_model(bi_encoder(directory))
    rows = engine.rows(TEXTS, "query")

    def full(_: object) -> None:
        raise raised

    monkeypatch.setattr(engine, "_network", full)

    with pytest.raises(OutOfMemory, match="a pass of 4 rows was too large"):
        engine.forward(rows)


# -- pairs ---------------------------------------------------------------------------------------------------


def test_scores_are_the_sigmoid_of_the_cross_encoders_logits(reranker: Path) -> None:
    engine = EngineShelf(lambda _: pair_encoder(reranker)).get("reranker")

    result = done(engine, "rerank", query="подарок бабушке", documents=TEXTS)

    theirs = CrossEncoder(str(reranker), device="cpu").predict([("подарок бабушке", text) for text in TEXTS])
    assert result["kind"] == "cross-encoder"
    np.testing.assert_allclose(result["scores"], theirs, atol=1e-5)
    assert len(set(result["scores"])) == len(TEXTS)


def test_scores_keep_their_order_where_float32_would_call_them_all_one(
    reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_model(pair_encoder(reranker))
    monkeypatch.setattr(engine, "forward", lambda rows: [20.0, 25.0, 30.0])
    job = engine.prepare("rerank", {"query": "чай", "documents": ["мёд", "плед", "кофе"]})

    first, second, third = job.finish(engine.forward(job.rows))["scores"]

    assert first < second < third < 1


def test_a_label_is_chosen_by_the_reranker(reranker: Path) -> None:
    categories = [{"id": 7, "name": "чай"}, {"id": 8, "name": "плед"}]
    engine = open_model(pair_encoder(reranker))

    mappings = done(engine, "classify", external_names=["мёд", "кофе"], internal_categories=categories)

    scores = done(engine, "rerank", query="мёд", documents=["чай", "плед"])["scores"]
    first = mappings["mappings"][0]
    assert first["internal_category_id"] == [7, 8][int(np.argmax(scores))]
    assert first["confidence"] == pytest.approx(max(scores), abs=1e-4)


def test_a_model_of_entailment_is_read_as_yes_against_no(tmp_path: Path) -> None:
    labels = ("contradiction", "neutral", "ENTAILMENT")
    engine = open_model(pair_encoder(tiny.classifier(tmp_path, labels)))
    [row] = engine.pairs([("чай", "мёд")])

    [logit] = engine.forward([row])

    network = CrossEncoder(str(tmp_path), device="cpu").model
    [[no, _, yes]] = network(torch.tensor([list(row.content.pieces[0])])).logits.tolist()
    assert logit == pytest.approx(yes - no, abs=1e-4)


def test_a_classifier_of_something_else_is_refused(tmp_path: Path) -> None:
    tiny.classifier(tmp_path, ("cat", "dog"))

    with pytest.raises(EngineError, match="tells cat, dog apart: neither a reranker"):
        open_model(pair_encoder(tmp_path))


def test_a_pass_of_short_and_long_pairs_gives_what_each_gives_alone(reranker: Path) -> None:
    engine = open_model(pair_encoder(reranker))
    rows = engine.pairs([("чай", "мёд"), ("чай " * 10, "плед"), ("кофе", "плед " * 90)])

    together = engine.forward(rows)

    np.testing.assert_allclose(together, [engine.forward([row])[0] for row in rows], atol=1e-4)
    assert rows[2].tokens == tiny.MAX_TOKENS
