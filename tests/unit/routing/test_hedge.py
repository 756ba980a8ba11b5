"""Hedging: when a second call is made, which answer wins, and how many there may be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import DeadlineExceeded, NoRoute
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.routing.call import Answer, Call
from gifty_compute.routing.hedge import Hedge, _with_dropped
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import Callers, Held, embedded

ON = parse_logic("routing: {hedge: {}}")

MakeCall = Callable[..., Call]


@pytest.fixture
def stage() -> Hedge:
    return Hedge()


@pytest.fixture
def warm_up(stage: Hedge, call: MakeCall, clock: HandClock) -> Callable[..., None]:
    """Calls that take so many seconds each by the clock."""

    def run(*seconds: float, kind: str = "embedding") -> None:
        for one in seconds:

            def then(asked: Call, one: float = one) -> Answer:
                clock.advance(one)
                return replace(embedded(call()), provider="warm")

            stage.run(call(kind, by=ON, seconds=1000), then)

    return run


def thread_of(stage: Hedge, call: Call) -> int:
    """The thread in which a call runs."""
    threads: list[int] = []

    def then(asked: Call) -> Answer:
        threads.append(threading.get_ident())
        return Answer({}, "runpod", 1)

    stage.run(call, then)
    return threads[0]


def test_a_slow_call_is_made_again_elsewhere_and_the_first_answer_wins(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)
    slow = callers.start(stage.run, call(by=ON), held)
    held.wait_for(2)

    held.let_go(1)

    answer = slow.result(10)
    assert [asked.last for asked in held.asked] == [frozenset(), {"runpod"}]
    assert (answer.attempts, answer.cost_usd) == (2, None)
    held.let_go(0)


def test_the_call_that_lost_is_told_that_nobody_wants_it(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)
    slow = callers.start(stage.run, call(by=ON), held)
    held.wait_for(2)
    wanted = [asked.dropped is not None and not asked.dropped.is_set() for asked in held.asked]

    held.let_go(1)
    slow.result(10)

    assert wanted == [True, True]
    assert held.asked[0].dropped is not None
    assert held.asked[0].dropped.is_set()
    held.let_go(0)


def test_the_first_one_may_still_win(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)
    slow = callers.start(stage.run, call(by=ON), held)
    held.wait_for(2)

    held.let_go(0)

    assert slow.result(10).provider == "runpod"
    held.let_go(1)


@pytest.mark.parametrize(("failing", "winning"), [(0, 1), (1, 0)])
def test_while_one_fails_the_other_one_is_waited_for(
    stage: Hedge,
    call: MakeCall,
    callers: Callers,
    held: Held,
    warm_up: Callable[..., None],
    failing: int,
    winning: int,
) -> None:
    warm_up(*[0.01] * 20)
    slow = callers.start(stage.run, call(by=ON), held)
    held.wait_for(2)
    held.let_go(failing, NoRoute())

    held.let_go(winning)

    assert slow.result(10).provider == "runpod"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_when_both_fail_the_error_is_the_firsts(
    stage: Hedge,
    call: MakeCall,
    callers: Callers,
    held: Held,
    warm_up: Callable[..., None],
    order: tuple[int, int],
) -> None:
    warm_up(*[0.01] * 20)
    slow = callers.start(stage.run, call(by=ON), held)
    held.wait_for(2)
    errors = NoRoute("of the first"), NoRoute("of the second")

    for number in order:
        held.let_go(number, errors[number])

    assert slow.exception(10) is errors[0]


def test_an_error_that_comes_early_is_the_answer(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[1.0] * 20)
    failing = callers.start(stage.run, call(by=ON), held)

    held.let_go(0, NoRoute())

    assert isinstance(failing.exception(10), NoRoute)
    assert len(held.asked) == 1


def test_the_wait_for_two_hung_calls_ends_by_the_deadline(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)

    hung = callers.start(stage.run, call(by=ON, seconds=0.1), held)

    assert isinstance(hung.exception(5), DeadlineExceeded)
    held.let_all_go()


def test_an_only_provider_is_asked_twice(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)
    only = parse_logic("routing: {hedge: {}}\nembedding: {providers: [openrouter]}")

    slow = callers.start(stage.run, call(by=only), held)

    held.wait_for(2)
    assert held.asked[1].last == {"openrouter"}
    held.let_all_go()
    slow.result(10)


def test_a_provider_that_must_not_be_asked_is_not_taken_for_the_first(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 20)

    slow = callers.start(stage.run, call(by=ON, never=frozenset({"runpod"})), held)

    held.wait_for(2)
    assert held.asked[1].last == {"intelligence_api"}
    held.let_all_go()
    slow.result(10)


def test_with_fewer_than_twenty_samples_a_call_runs_in_its_callers_thread(
    stage: Hedge, call: MakeCall, warm_up: Callable[..., None]
) -> None:
    warm_up(*[0.01] * 19)
    assert thread_of(stage, call(by=ON)) == threading.get_ident()

    assert thread_of(stage, call(by=ON)) != threading.get_ident()


@pytest.mark.parametrize(
    ("seconds", "could_be_hedged"),
    [
        ([0.01] * 19 + [5.0], True),
        ([0.01] * 18 + [5.0] * 2, False),
        ([5.0] * 20 + [0.01] * 180, False),
        ([5.0] * 20 + [0.01] * 200, True),
    ],
)
def test_slow_is_what_takes_longer_than_the_percentile_of_the_last_two_hundred(
    stage: Hedge, call: MakeCall, warm_up: Callable[..., None], seconds: list[float], could_be_hedged: bool
) -> None:
    warm_up(*seconds)

    # With two seconds left, a call that may take five before it counts as slow needs no other thread.
    assert (thread_of(stage, call(by=ON, seconds=2)) != threading.get_ident()) is could_be_hedged


def test_kinds_are_measured_apart(stage: Hedge, call: MakeCall, warm_up: Callable[..., None]) -> None:
    warm_up(*[0.01] * 20, kind="embedding")

    assert thread_of(stage, call("rerank", by=ON)) == threading.get_ident()


def test_a_failed_call_says_nothing_of_how_long_answers_take(
    stage: Hedge, call: MakeCall, warm_up: Callable[..., None]
) -> None:
    def fail(asked: Call) -> Answer:
        raise NoRoute

    warm_up(*[0.01] * 19)
    with pytest.raises(NoRoute):
        stage.run(call(by=ON), fail)

    assert thread_of(stage, call(by=ON)) == threading.get_ident()


class Slow(Deadline):
    """The deadline of a call that is slow until it is decided whether it is hedged: it is read for the
    second time then."""

    decided: threading.Event

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.monotonic() + 10, clock)
        object.__setattr__(self, "decided", threading.Event())
        object.__setattr__(self, "_reads", [])

    @property
    def remaining(self) -> float:
        reads: list[None] = self._reads  # type: ignore[attr-defined]
        reads.append(None)
        if len(reads) > 1:
            self.decided.set()
        return super().remaining


def hedges(stage: Hedge, calls: int, call: Call, clock: Clock) -> int:
    """How many of so many slow calls are hedged."""
    asked: list[Call] = []

    def slow(passing: Call) -> Answer:
        asked.append(passing)
        assert isinstance(passing.deadline, Slow)
        assert passing.deadline.decided.wait(10)
        return embedded(passing)

    for _ in range(calls):
        stage.run(replace(call, deadline=Slow(clock)), slow)
    return sum(bool(one.last) for one in asked)


@pytest.mark.parametrize(("share", "most"), [(0.05, 11), (0.2, 44)])
def test_no_more_than_a_share_of_all_calls_is_hedged(
    stage: Hedge, call: MakeCall, clock: HandClock, share: float, most: int
) -> None:
    by = parse_logic(f"routing: {{hedge: {{max_share: {share}}}}}")
    for _ in range(20):
        thread_of(stage, call(by=by))

    assert most - 1 <= hedges(stage, 200, call(by=by), clock) <= most


def test_what_fast_calls_left_over_does_not_let_all_calls_be_hedged_when_they_become_slow(
    stage: Hedge, call: MakeCall, warm_up: Callable[..., None], clock: HandClock
) -> None:
    warm_up(*[0.02] * 600)

    assert hedges(stage, 25, call(by=ON), clock) <= 11


def test_when_all_threads_are_taken_a_call_runs_in_its_callers_and_later_ones_do_not(
    stage: Hedge, call: MakeCall, callers: Callers, held: Held, warm_up: Callable[..., None]
) -> None:
    warm_up(*[1.0] * 20)
    hanging = [callers.start(stage.run, call(by=ON, seconds=60), held) for _ in range(32)]
    held.wait_for(32)

    assert thread_of(stage, call(by=ON)) == threading.get_ident()

    held.let_all_go()
    for future in hanging:
        future.result(10)
    assert thread_of(stage, call(by=ON)) != threading.get_ident()


@pytest.mark.parametrize(
    ("dropped", "attempts", "cost"),
    [
        (Answer({}, "openrouter", 3, cost_usd=0.25), 4, 0.75),
        (Answer({}, "openrouter", 3), 4, None),
        (NoRoute(), 2, None),
        (None, 2, None),
    ],
)
def test_what_the_dropped_call_took_is_counted_as_far_as_it_is_known(
    call: MakeCall, dropped: Any, attempts: int, cost: float | None
) -> None:
    other: Future[Answer] = Future()
    if isinstance(dropped, Answer):
        other.set_result(dropped)
    elif dropped is not None:
        other.set_exception(dropped)

    answer = _with_dropped(embedded(call()), other)

    assert (answer.attempts, answer.cost_usd, answer.provider) == (attempts, cost, "runpod")


@pytest.mark.parametrize(("kind", "by"), [("embedding", DEFAULT_LOGIC), ("llm", ON)])
def test_switched_off_or_for_other_kinds_the_call_passes_untouched(
    stage: Hedge, call: MakeCall, kind: str, by: Logic
) -> None:
    passing = call(kind, by=by)

    for _ in range(25):
        assert thread_of(stage, passing) == threading.get_ident()
