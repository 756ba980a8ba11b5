"""Inference: many callers, one thread, shared passes, and nobody suffers for another's row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from gifty_compute.engines.base import Engine, Job, Row
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError, OutOfMemory, Unavailable
from tests.unit.conftest import HandClock


class Scripted:
    """An engine whose rows are the payload's words; it doubles them, and may be held before each pass."""

    model, revision, space = "m", "1", None
    kinds = frozenset({"echo"})
    precision = ""
    packed, pass_tokens, row_tokens = False, 12, 1.0

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.passes: list[list[str]] = []
        self.threads: set[int] = set()
        self.go = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.held = False
        self.memory = 10**9

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        if task_type not in self.kinds:
            raise EngineError(f"m does no tasks of type {task_type!r}")
        rows = [Row(len(word), word) for word in payload["words"]]
        return Job(rows, lambda outputs: {"said": list(outputs)})

    def samples(self) -> Sequence[Sequence[Row]]:
        return ()

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        words = [row.content for row in rows]
        self.passes.append(words)
        self.threads.add(threading.get_ident())
        self.began.release()
        if self.held:
            assert self.go.acquire(timeout=10)
        self.clock.advance(1)
        if len(words) * max(map(len, words)) > self.memory:
            raise OutOfMemory("too large")
        if any("яд" in word for word in words):
            raise ValueError("poison")
        return [word * 2 for word in words if word != "пропал"]


@pytest.fixture
def engine(clock: HandClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
def inference(engine: Scripted, clock: HandClock) -> Iterator[Inference]:
    class Shelf(EngineShelf):
        def get(self, model: str) -> Engine:
            return engine

    made = Inference(Shelf(), clock, most_tokens=100)
    yield made
    engine.go.release(1000)
    made.close()


@pytest.fixture
def ask(inference: Inference) -> Callable[..., Future[dict[str, Any]]]:
    def submit(*words: str, wanted: Callable[[], bool] = lambda: True) -> Future[dict[str, Any]]:
        return inference.submit("m", "echo", {"words": list(words)}, wanted)

    return submit


Ask = Callable[..., Future[dict[str, Any]]]


def test_a_result_has_an_output_a_row_in_order_whatever_the_passes(ask: Ask, engine: Scripted) -> None:
    result = ask("бббббб", "а", "вв", "гггггггг").result(10)

    assert result == {"said": ["бббббббббббб", "аа", "вввв", "гггггггггггггггг"]}
    assert len(engine.passes) > 1


def test_a_share_leaves_the_rest_of_the_time_to_others(engine: Scripted, clock: HandClock) -> None:
    class Shelf(EngineShelf):
        def get(self, model: str) -> Engine:
            return engine

    inference, began = Inference(Shelf(), clock, share=0.25), clock.monotonic()

    for word in ("а", "б"):
        inference.submit("m", "echo", {"words": [word]}).result(10)
    while clock.monotonic() - began < 8:
        threading.Event().wait(0.005)  # its thread rests on this clock
    inference.close()

    # Two passes of a second, after each of which it rests three.
    assert clock.monotonic() - began == 8
    assert inference.tokens_per_second == pytest.approx(0.25)


def test_who_comes_while_a_pass_is_made_shares_the_next_one(ask: Ask, engine: Scripted) -> None:
    engine.held = True
    first = ask("а")
    assert engine.began.acquire(timeout=10)
    others = [ask("б"), ask("в"), ask("г")]
    engine.go.release(10)

    assert [one.result(10)["said"] for one in [first, *others]] == [["аа"], ["бб"], ["вв"], ["гг"]]
    assert engine.passes == [["а"], ["б", "в", "г"]]


def test_the_oldest_job_is_not_overtaken_by_shorter_ones(ask: Ask, engine: Scripted) -> None:
    engine.held = True
    ask("а")
    assert engine.began.acquire(timeout=10)
    long = ask("дддддддддддд")
    for _ in range(5):
        ask("е", "ж")
    engine.go.release(2)

    assert long.result(10)
    assert engine.passes[1] == ["дддддддддддд"]


def test_the_model_is_called_from_one_thread_alone(ask: Ask, engine: Scripted) -> None:
    callers = [threading.Thread(target=lambda: ask("а", "бб").result(10)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)

    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


def test_a_bad_row_fails_its_own_job_alone(ask: Ask, engine: Scripted) -> None:
    engine.held = True
    ask("а")
    assert engine.began.acquire(timeout=10)
    good, bad, also_good = ask("б"), ask("в", "яд"), ask("г", "д")
    engine.go.release(100)

    assert good.result(10) == {"said": ["бб"]}
    assert also_good.result(10) == {"said": ["гг", "дд"]}
    with pytest.raises(ValueError, match="poison"):
        bad.result(10)


def test_a_pass_that_is_too_large_is_halved_and_the_next_ones_are_planned_smaller(
    ask: Ask, engine: Scripted, inference: Inference
) -> None:
    engine.memory = 4

    result = ask(*"абвгдежзийкл").result(10)

    assert len(result["said"]) == 12
    assert inference.too_large > 0
    before = len(engine.passes)
    ask(*"мноп").result(10)
    assert all(len(words) <= 4 for words in engine.passes[before:])


def test_one_row_that_never_fits_fails_its_job(ask: Ask, engine: Scripted) -> None:
    engine.memory = 4

    with pytest.raises(OutOfMemory):
        ask("слишком").result(10)
    assert ask("а").result(10) == {"said": ["аа"]}


@pytest.mark.parametrize("leave", ["cancelled", "unwanted"])
def test_what_nobody_waits_for_is_dropped_when_the_next_pass_is_built(
    ask: Ask, engine: Scripted, leave: str
) -> None:
    engine.held, wanted = True, threading.Event()
    wanted.set()
    ask("а")
    assert engine.began.acquire(timeout=10)
    dropped, kept = ask("б", wanted=wanted.is_set), ask("в")
    if leave == "cancelled":
        assert dropped.cancel()
    else:
        wanted.clear()
    engine.go.release(10)

    assert kept.result(10) == {"said": ["вв"]}
    assert engine.passes == [["а"], ["в"]]
    with pytest.raises(CancelledError):
        dropped.result(10)


def test_outputs_that_are_too_few_are_an_error_and_never_shifted(ask: Ask) -> None:
    with pytest.raises(EngineError, match="0 outputs for 1 rows"):
        ask("пропал", "а", "б").result(10)


def test_what_the_model_cannot_do_is_told_at_once(inference: Inference) -> None:
    with pytest.raises(EngineError, match="'soup'"):
        inference.submit("m", "soup", {"words": []})


def test_a_job_without_rows_is_done_at_once(ask: Ask, engine: Scripted) -> None:
    assert ask().result(0) == {"said": []}
    assert engine.passes == []


def test_more_than_fits_in_is_turned_away_but_never_a_lone_caller(ask: Ask, engine: Scripted) -> None:
    engine.held = True
    first = ask("а" * 500)
    assert engine.began.acquire(timeout=10)

    with pytest.raises(Unavailable):
        ask("б")
    engine.go.release(10)
    assert first.result(10)


def test_who_would_wait_longer_than_its_patience_is_told_so_with_the_seconds(
    inference: Inference, ask: Ask, engine: Scripted
) -> None:
    ask("а" * 10).result(10)  # ten tokens a second
    engine.held = True
    ask("б" * 40)
    assert engine.began.acquire(timeout=10)
    assert engine.began.acquire(timeout=10)

    with pytest.raises(Unavailable) as caught:
        inference.submit("m", "echo", {"words": ["в" * 20]}, patience=5)

    assert caught.value.retry_after == 4
    assert inference.tokens_per_second == 10


def test_a_caller_is_not_refused_for_work_that_is_no_longer_wanted(
    inference: Inference, ask: Ask, engine: Scripted
) -> None:
    ask("а" * 10).result(10)  # ten tokens a second
    engine.held = True
    running = ask("б" * 10)
    assert engine.began.acquire(timeout=10)
    assert engine.began.acquire(timeout=10)
    wanted = [True]
    given_up = ask("г" * 60, wanted=lambda: wanted[0])
    with pytest.raises(Unavailable):
        inference.submit("m", "echo", {"words": ["в" * 10]}, patience=5)

    wanted[0] = False
    served = inference.submit("m", "echo", {"words": ["в" * 10]}, patience=5)

    engine.held = False
    engine.go.release(10)
    assert (running.result(10), served.result(10)) == ({"said": ["б" * 20]}, {"said": ["в" * 20]})
    assert given_up.cancelled()


def test_passes_are_planned_to_last_no_longer_than_they_may(engine: Scripted, clock: HandClock) -> None:
    class Shelf(EngineShelf):
        def get(self, model: str) -> Engine:
            return engine

    inference = Inference(Shelf(), clock, pass_seconds=0.5)
    first = inference.submit("m", "echo", {"words": ["а" * 12]})  # twelve tokens a second, so six in a pass
    first.result(10)

    inference.submit("m", "echo", {"words": ["бб"] * 6}).result(10)
    inference.submit("m", "echo", {"words": ["в" * 9, "г"]}).result(10)
    inference.close()

    sizes = [[len(word) for word in one] for one in engine.passes]
    assert sizes[1:3] == [[2, 2, 2], [2, 2, 2]]
    assert sorted(sizes[3:]) == [[1], [9]]  # a row that is longer than a pass goes alone


def test_at_the_end_what_waits_is_cancelled_and_nothing_more_is_taken(
    inference: Inference, ask: Ask, engine: Scripted
) -> None:
    engine.held = True
    running = ask("а")
    assert engine.began.acquire(timeout=10)
    waiting = ask("б" * 12)
    closing = threading.Thread(target=inference.close)
    closing.start()
    engine.go.release(1)
    closing.join(10)

    assert running.result(10) == {"said": ["аа"]}
    assert waiting.cancelled()
    with pytest.raises(Unavailable):
        ask("в")


def test_what_a_pass_has_begun_is_finished_and_the_rest_can_be_taken_back(ask: Ask, engine: Scripted) -> None:
    engine.held = True
    first = ask("аааааааааа", "бббббббббб")
    assert engine.began.acquire(timeout=10)
    second = ask("вв")

    assert (first.cancel(), second.cancel()) == (False, True)
    engine.go.release(10)
    assert first.result(10)["said"][1] == "б" * 20


def test_what_has_begun_is_dropped_when_nobody_wants_it_any_more(ask: Ask, engine: Scripted) -> None:
    engine.held, wanted = True, threading.Event()
    wanted.set()
    begun = ask("аааааааааа", "бббббббббб", wanted=wanted.is_set)
    assert engine.began.acquire(timeout=10)

    wanted.clear()
    engine.go.release(10)

    with pytest.raises(CancelledError):
        begun.result(10)
    assert len(engine.passes) == 1
