"""The catalogue that is shipped with the demo."""

from __future__ import annotations

from collections import Counter

from gifty_compute.demo.catalogue import read_catalogue
from gifty_compute.wire.embedding import EmbeddingPayload


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
