"""The cache: what is asked again, and whose vector each text gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.errors import NoRoute
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.providers.base import Usage
from gifty_compute.routing.cache import Cache
from gifty_compute.routing.call import Answer, Call
from tests.unit.routing.conftest import embedded, embedding_payload, vector_of

ON = parse_logic("routing: {cache: {ttl_seconds: 60}}")

MakeCall = Callable[..., Call]


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: list[float] = []

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def put(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        self.values.update(items)
        self.ttls.append(ttl_seconds)


class Provider:
    """Answers as `embedded` does, and notes the texts that it was asked for."""

    def __init__(self, name: str = "runpod") -> None:
        self.name = name
        self.asked: list[list[str]] = []

    def __call__(self, call: Call) -> Answer:
        self.asked.append(call.payload["texts"])
        return replace(embedded(call), provider=self.name)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def ask(shelf: Shelf, call: MakeCall) -> Callable[..., Answer]:
    def run(
        *texts: str, then: Callable[[Call], Answer] | None = None, by: Logic = ON, **fields: Any
    ) -> Answer:
        asked = call(by=by, payload=embedding_payload(*texts, **fields))
        return Cache(shelf).run(asked, then or Provider())

    return run


def assert_own_vectors(answer: Answer, *texts: str) -> None:
    np.testing.assert_array_equal(answer.result["embeddings"], [vector_of(text) for text in texts])


def test_a_text_that_comes_again_is_not_asked_for_again(ask: Callable[..., Answer]) -> None:
    ask("чай")
    provider = Provider("openrouter")

    answer = ask("чай", then=provider)

    assert provider.asked == []
    assert (answer.provider, answer.attempts, answer.cached) == ("runpod", 0, True)
    assert (answer.usage, answer.cost_usd) == (Usage(0), 0.0)
    assert_own_vectors(answer, "чай")


def test_an_answer_from_the_cache_has_the_form_of_a_fresh_one(ask: Callable[..., Answer]) -> None:
    fresh = ask("чай").result

    kept = ask("чай").result

    assert kept.keys() == fresh.keys()
    assert [kept[key] for key in ("model", "space", "dim")] == ["bge-m3", "bge-m3", 1024]
    assert (kept["embeddings"].dtype, kept["embeddings"].shape) == ("<f4", (1, 1024))


def test_mixed_hits_and_misses_come_back_each_at_its_own_place(ask: Callable[..., Answer]) -> None:
    ask("мёд", "кружка")
    provider = Provider("openrouter")

    answer = ask("нож", "кружка", "чай", "мёд", "книга", then=provider)

    assert provider.asked == [["нож", "чай", "книга"]]
    assert_own_vectors(answer, "нож", "кружка", "чай", "мёд", "книга")


def test_a_mixed_answer_is_as_its_fresh_part_came(ask: Callable[..., Answer]) -> None:
    ask("мёд")

    answer = ask("мёд", "чай", then=Provider("openrouter"))

    assert (answer.provider, answer.attempts, answer.cached) == ("openrouter", 1, False)
    assert (answer.usage, answer.cost_usd) == (Usage(1), 0.5)


def test_a_text_twice_in_a_batch_is_asked_for_once(ask: Callable[..., Answer]) -> None:
    ask("мёд")
    provider = Provider()

    answer = ask("чай", "мёд", "чай", "мёд", "нож", then=provider)

    assert provider.asked == [["чай", "нож"]]
    assert_own_vectors(answer, "чай", "мёд", "чай", "мёд", "нож")


@given(st.lists(st.sampled_from("абвгд"), max_size=5), st.lists(st.sampled_from("абвгд"), min_size=1))
def test_whatever_is_known_already_each_text_gets_its_own_vector(before: list[str], texts: list[str]) -> None:
    stage = Cache(Shelf())
    for texts_of_a_call in ([before] if before else []) + [texts]:
        payload = embedding_payload(*texts_of_a_call)
        model = ON.model("embedding", None)
        answer = stage.run(
            Call(ON, "embedding", model, payload, Deadline.after(2, SystemClock())), Provider()
        )

    assert_own_vectors(answer, *texts)


def test_ids_are_those_of_the_call_also_where_not_all_was_asked(ask: Callable[..., Answer]) -> None:
    ask("мёд")

    mixed = ask("чай", "мёд", ids=["а", "б"])
    kept = ask("чай", "мёд", ids=["в", "г"])

    assert (mixed.result["ids"], kept.result["ids"]) == (["а", "б"], ["в", "г"])


def test_values_are_kept_for_the_configured_time(ask: Callable[..., Answer], shelf: Shelf) -> None:
    ask("чай")

    assert shelf.ttls == [60]


def test_neither_key_nor_value_holds_the_text(ask: Callable[..., Answer], shelf: Shelf) -> None:
    ask("canary-чай")

    [(key, value)] = shelf.values.items()
    assert "canary" not in key
    assert b"canary" not in value


def test_a_query_and_a_passage_of_one_text_are_told_apart(ask: Callable[..., Answer]) -> None:
    ask("чай", input_type="passage")
    provider = Provider()

    ask("чай", input_type="query", then=provider)

    assert provider.asked == [["чай"]]


def test_another_model_of_the_same_space_shares_its_vectors(ask: Callable[..., Answer]) -> None:
    twin = parse_logic(
        "routing: {cache: {ttl_seconds: 60}}\n"
        "models: {twin: {kinds: [embedding], space: bge-m3, providers: {runpod: twin}}}"
    )
    ask("чай", by=twin)

    answer = ask("чай", by=twin, model="twin")

    assert (answer.cached, answer.result["model"]) == (True, "twin")


@pytest.mark.parametrize(
    "change", ["{revision: another}", "{pooling: mean}", '{prefixes: {passage: "passage: "}}']
)
def test_a_space_that_was_changed_under_its_name_knows_nothing_of_before(
    ask: Callable[..., Answer], change: str
) -> None:
    ask("чай")
    provider = Provider()

    ask(
        "чай",
        then=provider,
        by=parse_logic(f"routing: {{cache: {{ttl_seconds: 60}}}}\nspaces: {{bge-m3: {change}}}"),
    )

    assert provider.asked == [["чай"]]


def _numbers(*values: float) -> bytes:
    return b"\x06runpod" + np.resize(np.array(values, "<f4"), 1024).tobytes()


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x06",
        b"\x06runpod",
        b"\xffrunpod",
        _numbers(1.0)[:-4],
        _numbers(1.0) + b"\x00",
        b"\x06nobody" + _numbers(1.0)[7:],
        _numbers(0.0),
        _numbers(1.0, np.nan),
        _numbers(1.0, np.inf),
        _numbers(1e-9),
    ],
)
def test_a_value_that_is_no_good_vector_is_a_miss_and_replaced(
    ask: Callable[..., Answer], shelf: Shelf, bad: bytes
) -> None:
    ask("мёд", "чай")
    first = next(iter(shelf.values))
    shelf.values[first] = bad
    provider = Provider()

    answer = ask("мёд", "чай", then=provider)

    assert provider.asked == [["мёд"]]
    assert_own_vectors(answer, "мёд", "чай")
    assert shelf.values[first] != bad


def test_the_largest_numbers_do_no_harm(ask: Callable[..., Answer], shelf: Shelf) -> None:
    ask("мёд")
    shelf.values[next(iter(shelf.values))] = _numbers(3e38)

    assert ask("мёд").cached


def test_an_error_is_the_callers_and_nothing_is_kept(ask: Callable[..., Answer], shelf: Shelf) -> None:
    def fail(call: Call) -> Answer:
        raise NoRoute()

    with pytest.raises(NoRoute):
        ask("чай", then=fail)

    assert shelf.values == {}


@pytest.mark.parametrize("kind", ["embedding", "rerank", "llm"])
def test_without_its_section_or_for_other_work_the_call_passes_untouched(
    call: MakeCall, shelf: Shelf, kind: str
) -> None:
    passing = call(kind, by=DEFAULT_LOGIC if kind == "embedding" else ON)
    answer = Answer({}, "groq", 1)
    seen: list[Call] = []

    given_back = Cache(shelf).run(passing, lambda asked: seen.append(asked) or answer)  # type: ignore[func-returns-value]

    assert given_back is answer
    assert seen[0] is passing
    assert shelf.values == {}
