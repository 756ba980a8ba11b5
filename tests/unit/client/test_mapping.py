"""How texts become packs, and packs tasks that a second run finds again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.client.answers import Embeddings
from gifty_compute.client.errors import MixedSpaces, Refused, ServiceFault
from gifty_compute.client.mapping import Job, Pack, Packer


def job(texts: Any = (), **how: Any) -> Job:
    defaults = {"model": None, "input_type": None, "run_id": None}
    sizes = {"tokens_a_task": 4000, "tasks_ahead": 64, "progress": False}
    return Job(texts, **{**defaults, **sizes, **how})


def packs_of(texts: list[str], tokens: int) -> list[Pack]:
    packer = Packer(tokens)
    packs = [pack for text in texts if (pack := packer.put(text)) is not None]
    rest = packer.rest()
    return packs + ([rest] if rest is not None else [])


@given(st.lists(st.text(max_size=40), max_size=60), st.integers(1, 30))
def test_packs_hold_every_text_once_in_order_and_no_more_than_they_may(texts: list[str], tokens: int) -> None:
    packs = packs_of(texts, tokens)

    assert [text for pack in packs for text in pack.texts] == texts
    assert [pack.first for pack in packs] == [
        sum(len(before.texts) for before in packs[:number]) for number in range(len(packs))
    ]
    for pack in packs:
        assert pack.texts
        assert len(pack.texts) == 1 or sum(map(len, pack.texts)) <= tokens * 3


def test_a_pack_holds_no_more_texts_than_a_task_may() -> None:
    assert [len(pack.texts) for pack in packs_of(["я"] * 5000, 10_000)] == [2048, 2048, 904]


def key_of(pack: list[str], **how: Any) -> str:
    return job(**how).call(Pack(0, pack)).headers["Idempotency-Key"]


def test_a_key_is_that_of_the_run_and_of_all_that_is_said_in_it() -> None:
    key = key_of(["чай", "мяч"], run_id="ночной")

    assert key == key_of(["чай", "мяч"], run_id="ночной")
    others = {
        key_of(["чай", "мяч"], run_id="дневной"),
        key_of(["чаймяч"], run_id="ночной"),
        key_of(["чай", "мяч"], run_id="ночной", model="bge-m3"),
        key_of(["чай", "мяч"], run_id="ночной", input_type="query"),
    }
    assert len(others | {key}) == 5
    assert key.isascii()


def test_without_a_run_every_task_is_new() -> None:
    assert key_of(["чай"]) != key_of(["чай"])


def test_vectors_of_two_spaces_are_not_mixed() -> None:
    this, pack = job(), Pack(0, ["чай"])
    this.vectors(pack, Embeddings([[1.0]], "bge-m3", "bge-m3"))

    with pytest.raises(MixedSpaces, match="bge-m3"):
        this.vectors(pack, Embeddings([[1.0]], "e5", "e5-small"))


def test_a_vector_that_is_missing_is_noticed() -> None:
    with pytest.raises(ServiceFault, match="1 vectors came for 2 texts"):
        job().vectors(Pack(0, ["чай", "мяч"]), Embeddings([[1.0]], "m", "s"))


def test_an_error_says_at_which_texts_it_was() -> None:
    with pytest.raises(Refused) as refused, job().at(Pack(40, ["a", "b", "c"])):
        raise Refused("payload.texts.1: text is empty")

    assert refused.value.__notes__ == ["at the texts 40 to 42 of this map"]


@pytest.mark.parametrize("how", [{"tokens_a_task": 0}, {"tasks_ahead": 0}])
def test_sizes_that_would_do_nothing_are_refused(how: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        job(**how)


def test_one_text_is_not_taken_for_its_letters() -> None:
    with pytest.raises(TypeError, match=r"^texts: "):
        job("чай")
