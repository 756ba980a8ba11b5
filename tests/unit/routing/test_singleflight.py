"""Singleflight: who shares whose run, and when a follower stops following."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gifty_compute.errors import DeadlineExceeded, NoRoute
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.routing.call import Call
from gifty_compute.routing.singleflight import Singleflight
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import PAYLOADS, Callers, Held, embedding_payload

ON = parse_logic("routing: {singleflight: true}")

MakeCall = Callable[..., Call]


def test_the_same_call_meanwhile_shares_the_run_and_its_answer(
    call: MakeCall, held: Held, callers: Callers
) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    followers = [callers.start_and_wait(stage.run, call(by=ON), held) for _ in range(3)]

    held.let_go(0)

    answers = [future.result(10) for future in [leader, *followers]]
    assert len(held.asked) == 1
    assert all(answer is answers[0] for answer in answers)


def test_a_call_that_comes_afterwards_runs_anew(call: MakeCall, held: Held, callers: Callers) -> None:
    stage = Singleflight()
    first = callers.start(stage.run, call(by=ON), held)
    held.let_go(0)
    first.result(10)

    second = callers.start(stage.run, call(by=ON), held)
    held.let_go(1)

    second.result(10)
    assert len(held.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"payload": embedding_payload("чайник", "ещё")},
        {"payload": embedding_payload("чайник", input_type="query")},
        {"by": parse_logic("routing: {singleflight: true} # edited")},
        {"never": frozenset({"intelligence_api"})},
    ],
)
def test_another_text_input_type_logic_or_never_is_another_call(
    call: MakeCall, held: Held, callers: Callers, other: dict[str, Any]
) -> None:
    stage = Singleflight()
    one = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)

    two = callers.start(stage.run, call(**{"by": ON, **other}), held)

    held.wait_for(2)
    for number, future in enumerate([one, two]):
        held.let_go(number)
        future.result(10)


def test_the_order_of_the_payloads_fields_makes_no_other_call(
    call: MakeCall, held: Held, callers: Callers
) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    turned = dict(reversed(PAYLOADS["embedding"].items()))
    follower = callers.start_and_wait(stage.run, call(by=ON, payload=turned), held)

    held.let_go(0)

    assert follower.result(10) is leader.result(10)


def test_an_error_is_shared(call: MakeCall, held: Held, callers: Callers) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    follower = callers.start_and_wait(stage.run, call(by=ON), held)

    held.let_go(0, NoRoute("runpod: overloaded"))

    assert isinstance(leader.exception(10), NoRoute)
    assert isinstance(follower.exception(10), NoRoute)
    assert len(held.asked) == 1


def test_a_follower_waits_no_longer_than_its_own_deadline(
    call: MakeCall, held: Held, callers: Callers
) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)

    follower = callers.start_and_wait(stage.run, call(by=ON, seconds=0.01), held)

    assert isinstance(follower.exception(10), DeadlineExceeded)
    assert not leader.done()
    held.let_go(0)
    leader.result(10)


@pytest.mark.parametrize("end", [DeadlineExceeded(), SystemExit()])
def test_when_the_leader_ended_for_reasons_of_its_own_the_others_run_once_more(
    call: MakeCall, held: Held, callers: Callers, end: BaseException
) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    followers = [callers.start_and_wait(stage.run, call(by=ON), held) for _ in range(3)]

    held.let_go(0, end)
    held.wait_for(2)
    held.let_all_go()

    assert leader.exception(10) is end
    assert all(follower.result(10).provider == "runpod" for follower in followers)


def test_a_follower_whose_time_is_over_too_does_not_begin_anew(
    call: MakeCall, held: Held, callers: Callers, clock: HandClock
) -> None:
    stage = Singleflight()
    leader = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    follower = callers.start_and_wait(stage.run, call(by=ON), held)
    clock.advance(2)

    held.let_go(0, DeadlineExceeded())

    assert isinstance(follower.exception(10), DeadlineExceeded)
    assert isinstance(leader.exception(10), DeadlineExceeded)
    assert len(held.asked) == 1


@pytest.mark.parametrize(("kind", "by"), [("embedding", DEFAULT_LOGIC), ("llm", ON)])
def test_switched_off_or_for_a_language_model_every_call_runs(
    call: MakeCall, held: Held, callers: Callers, kind: str, by: Any
) -> None:
    stage = Singleflight()
    payload = {**PAYLOADS[kind], "texts": ["чайник"]}
    calls = [callers.start(stage.run, call(kind, by=by, payload=payload), held) for _ in range(2)]

    for number in range(2):
        held.let_go(number)

    assert all(future.result(10).provider == "runpod" for future in calls)
