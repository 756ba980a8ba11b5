"""Answers to portions of one list, as one answer."""

from __future__ import annotations

import numpy as np
import pytest

from gifty_compute.client.answers import Classification, Embeddings, Mapped, Origin, Tokens
from gifty_compute.client.errors import MixedSpaces
from gifty_compute.client.reading import joined_classification, joined_embeddings


def part(number: float, *, space: str = "e5", tokens: int | None = 3, provider: str = "local") -> Embeddings:
    used = None if tokens is None else Tokens(tokens)
    return Embeddings(np.full((2, 3), number, "<f4"), "e5", space, used, Origin(provider, False, 1, "v1"))


def test_the_vectors_are_in_order_and_the_tokens_are_one_sum() -> None:
    whole = joined_embeddings([part(1), part(2), part(3)])

    assert whole.vectors[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert (whole.model, whole.space, whole.tokens) == ("e5", "e5", Tokens(9))
    assert whole.origin == Origin("local", False, 3, "v1")


def test_a_sum_of_which_a_part_is_not_known_is_not_known() -> None:
    assert joined_embeddings([part(1), part(2, tokens=None)]).tokens is None


def test_all_providers_that_answered_are_named() -> None:
    whole = joined_embeddings([part(1), part(2, provider="runpod"), part(3)])

    assert whole.origin.provider == "local, runpod"


def test_vectors_of_two_spaces_are_no_answer() -> None:
    with pytest.raises(MixedSpaces, match="some vectors are of e5, others of bge-m3"):
        joined_embeddings([part(1), part(2, space="bge-m3")])


def test_the_mappings_of_many_names_are_in_order() -> None:
    parts = [Classification([Mapped(name, 1)], "m") for name in ("чай", "кофе")]

    assert [one.external_name for one in joined_classification(parts).mappings] == ["чай", "кофе"]
