"""Micro-batches: who goes at once, who with whom, who leads, and that nobody is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.errors import DeadlineExceeded, GiftyComputeError, InvalidRequest, NoRoute
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.providers.base import Usage
from gifty_compute.routing.call import Answer, Call
from gifty_compute.routing.microbatch import Microbatch
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import (
    PAYLOADS,
    Callers,
    Held,
    Watched,
    embedded,
    embedding_payload,
    vector_of,
)


def switched_on(in_flight: int = 1, max_texts: int = 8) -> Logic:
    return parse_logic(f"routing: {{microbatch: {{in_flight: {in_flight}, max_texts: {max_texts}}}}}")


ON = switched_on()

Ask = Callable[..., Future[Answer]]


@pytest.fixture
def stage() -> Microbatch:
    return Microbatch()


@pytest.fixture
def go(stage: Microbatch, callers: Callers, call: Callable[..., Call], held: Held) -> Ask:
    """Starts a call for a text; it has come to the end of its way, or waits, when this returns."""

    def start(text: str, *, waits: bool, by: Logic = ON, **fields: Any) -> Future[Answer]:
        asked = call(by=by, payload=embedding_payload(text, **fields.pop("payload", {})), **fields)
        if waits:
            return callers.start_and_wait(stage.run, asked, held)
        before = len(held.asked)
        future = callers.start(stage.run, asked, held)
        held.wait_for(before + 1)
        return future

    return start


def assert_own_vectors(futures: list[Future[Answer]], texts: str) -> None:
    for future, text in zip(futures, texts, strict=True):
        np.testing.assert_array_equal(future.result(10).result["embeddings"], [vector_of(text)])


def test_a_lone_caller_goes_at_once_in_its_own_thread_with_its_own_call(
    stage: Microbatch, call: Callable[..., Call]
) -> None:
    asked = call(by=ON)
    answer, seen = embedded(asked), []

    def then(passing: Call) -> Answer:
        seen.append((passing, threading.get_ident()))
        return answer

    assert stage.run(asked, then) is answer
    assert stage.run(asked, then) is answer
    assert seen == [(asked, threading.get_ident())] * 2
    assert seen[0][0] is asked


def test_callers_that_come_meanwhile_share_one_call_and_get_each_its_own_vector(go: Ask, held: Held) -> None:
    futures = [go("а", waits=False), *(go(text, waits=True) for text in "бвбг")]

    held.let_go(0)
    held.let_go(1)

    assert_own_vectors(futures, "абвбг")
    assert held.texts == [["а"], ["б", "в", "б", "г"]]


def test_of_a_batch_nobody_knows_what_one_caller_used(go: Ask, held: Held) -> None:
    futures = [go("а", waits=False), go("б", waits=True), go("в", waits=True)]

    held.let_go(0)
    held.let_go(1)

    alone, *members = [future.result(10) for future in futures]
    assert (alone.usage, alone.cost_usd) == (Usage(1), 0.5)
    assert [(member.usage, member.cost_usd, member.attempts) for member in members] == [(None, None, 1)] * 2


def test_as_many_as_configured_are_in_flight_before_anybody_waits(go: Ask, held: Held) -> None:
    two = switched_on(in_flight=2)

    futures = [go("а", waits=False, by=two), go("б", waits=False, by=two), go("в", waits=True, by=two)]
    assert held.texts == [["а"], ["б"]]

    held.let_go(1)
    held.wait_for(3)
    held.let_all_go()
    assert_own_vectors(futures, "абв")


def test_a_batch_holds_no_more_texts_than_configured_and_first_come_goes_first(go: Ask, held: Held) -> None:
    by = switched_on(max_texts=2)
    futures = [go("а", waits=False, by=by), *(go(text, waits=True, by=by) for text in "бвг")]

    held.let_all_go()

    assert_own_vectors(futures, "абвг")
    assert held.texts == [["а"], ["б", "в"], ["г"]]


def test_a_batch_holds_no_more_characters_than_one_pass_takes(go: Ask, held: Held) -> None:
    texts = ["а" * 30_000, "б" * 30_000, "в"]
    futures = [go("а", waits=False), *(go(text, waits=True) for text in texts)]

    held.let_all_go()

    for future in futures:
        future.result(10)
    assert held.texts == [["а"], texts[:2], texts[2:]]


@pytest.mark.parametrize(
    "other",
    [
        {"never": frozenset({"intelligence_api"})},
        {"by": parse_logic("routing: {microbatch: {in_flight: 1}} # edited")},
    ],
)
def test_other_logic_and_never_have_lanes_of_their_own(go: Ask, held: Held, other: dict[str, Any]) -> None:
    futures = [go("а", waits=False), go("б", waits=False, **other)]

    held.let_all_go()

    assert_own_vectors(futures, "аб")


def test_queries_and_passages_share_what_may_be_in_flight_but_no_batch(go: Ask, held: Held) -> None:
    query = {"payload": {"input_type": "query"}}
    futures = [go("а", waits=False), go("б", waits=True), go("в", waits=True, **query)]
    futures += [go("г", waits=True), go("д", waits=True, **query)]

    held.let_all_go()

    assert_own_vectors(futures, "абвгд")
    assert [(call.payload["input_type"], call.payload["texts"]) for call in held.asked] == [
        ("passage", ["а"]),
        ("passage", ["б", "г"]),
        ("query", ["в", "д"]),
    ]


def test_the_one_with_most_time_leads_and_the_batch_has_its_deadline(
    go: Ask, held: Held, clock: HandClock
) -> None:
    futures = [go("а", waits=False)]
    futures += [
        go(text, waits=True, seconds=seconds, request_id=text)
        for text, seconds in (("б", 3), ("в", 9), ("г", 5))
    ]

    held.let_all_go()

    assert_own_vectors(futures, "абвг")
    batch = held.asked[1]
    assert (batch.request_id, batch.deadline.at) == ("в", clock.monotonic() + 9)


def test_a_member_stops_waiting_at_its_own_deadline_and_the_others_do_not(go: Ask, held: Held) -> None:
    first = go("а", waits=False)
    hasty, patient = go("б", waits=True, seconds=0.05), go("в", waits=True)
    held.let_go(0)
    held.wait_for(2)

    assert isinstance(hasty.exception(10), DeadlineExceeded)
    held.let_go(1)
    assert_own_vectors([first, patient], "ав")


def test_one_whose_deadline_passes_in_the_queue_is_not_asked_for(go: Ask, held: Held) -> None:
    first = go("а", waits=False)
    hasty, patient = go("б", waits=True, seconds=0.01), go("в", waits=True)
    assert isinstance(hasty.exception(10), DeadlineExceeded)

    held.let_all_go()

    assert_own_vectors([first, patient], "ав")
    assert held.texts == [["а"], ["в"]]


def test_one_whose_time_is_over_but_who_has_not_noticed_yet_neither_leads_nor_goes_along(
    stage: Microbatch, callers: Callers, call: Callable[..., Call], held: Held, clock: HandClock
) -> None:
    def ask(text: str, seconds: float) -> Call:
        return call(by=ON, payload=embedding_payload(text), seconds=seconds)

    first = callers.start(stage.run, ask("а", 9), held)
    held.wait_for(1)
    late = callers.start_and_wait(stage.run, ask("б", 0.3), held)
    patient = callers.start_and_wait(stage.run, ask("в", 9), held)
    clock.advance(2)

    held.let_all_go()

    assert_own_vectors([first, patient], "ав")
    assert held.texts == [["а"], ["в"]]
    assert isinstance(late.exception(10), DeadlineExceeded)


class EndsWhenChosen(Watched):
    """The deadline of a caller whose wait is over after it was chosen to lead, and before it knows."""

    chosen: threading.Event

    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__(seconds, clock)
        object.__setattr__(self, "chosen", threading.Event())

    @property
    def remaining(self) -> float:
        self.waiting.set()
        assert self.chosen.wait(10)
        raise SystemExit


def test_a_leader_whose_wait_ends_in_the_moment_it_is_chosen_hands_on(
    stage: Microbatch,
    callers: Callers,
    call: Callable[..., Call],
    held: Held,
    clock: HandClock,
) -> None:
    first = callers.start(stage.run, call(by=ON, payload=embedding_payload("а")), held)
    held.wait_for(1)
    deadline = EndsWhenChosen(9, clock)
    asked = replace(call(by=ON, payload=embedding_payload("б")), deadline=deadline)
    chosen = callers.start(stage.run, asked, held)
    assert deadline.waiting.wait(10)
    other = callers.start_and_wait(stage.run, call(by=ON, payload=embedding_payload("в")), held)

    held.let_go(0)
    first.result(10)
    deadline.chosen.set()
    held.let_go(1)

    assert isinstance(chosen.exception(10), SystemExit)
    assert_own_vectors([first, other], "ав")
    assert held.texts == [["а"], ["в"]]


def refusing(*bad: str, sizes: list[int]) -> Callable[[Call], Answer]:
    def then(call: Call) -> Answer:
        sizes.append(len(call.payload["texts"]))
        if set(bad) & set(call.payload["texts"]):
            raise InvalidRequest("refused", code="rejected_by_provider")
        return embedded(call)

    return then


@pytest.mark.parametrize("bad", ["б", "и", "вг", "бвгдежзи"])
def test_a_bad_text_fails_its_caller_only(
    stage: Microbatch, callers: Callers, call: Callable[..., Call], held: Held, bad: str
) -> None:
    first = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)
    sizes: list[int] = []
    then = refusing(*bad, sizes=sizes)
    futures = {
        text: callers.start_and_wait(stage.run, call(by=ON, payload=embedding_payload(text)), then)
        for text in "бвгдежзи"
    }

    held.let_go(0)

    first.result(10)
    failed = {text for text, future in futures.items() if isinstance(future.exception(10), InvalidRequest)}
    assert failed == set(bad)
    for text in futures.keys() - failed:
        assert_own_vectors([futures[text]], text)
    if len(bad) == 1:
        assert sorted(sizes) == [1, 1, 2, 2, 4, 4, 8]


def test_another_error_is_everybodys(go: Ask, held: Held) -> None:
    first, *members = [go("а", waits=False), go("б", waits=True), go("в", waits=True)]

    held.let_go(0)
    held.let_go(1, NoRoute("runpod: overloaded"))

    first.result(10)
    assert all(isinstance(member.exception(10), NoRoute) for member in members)
    assert len(held.asked) == 2


@pytest.mark.parametrize("end", [SystemExit(), KeyboardInterrupt()])
def test_when_a_leaders_thread_is_ended_its_members_are_led_by_another(
    go: Ask, held: Held, end: BaseException
) -> None:
    first = go("а", waits=False)
    leader, *members = [go("б", waits=True, seconds=9), go("в", waits=True), go("г", waits=True)]
    held.let_go(0)

    held.let_go(1, end)
    held.let_go(2)

    assert leader.exception(10) is end
    assert_own_vectors([first, *members], "авг")
    assert held.texts[2] == ["в", "г"]


def test_a_fault_of_ours_strands_nobody(go: Ask, held: Held) -> None:
    futures = [go("а", waits=False), go("б", waits=True), go("в", waits=True)]
    held.let_go(0, ZeroDivisionError())
    held.let_go(1, ZeroDivisionError())
    assert all(isinstance(future.exception(10), ZeroDivisionError) for future in futures)

    again = go("г", waits=False)

    held.let_go(2)
    assert_own_vectors([again], "г")


def test_an_answer_with_too_few_vectors_is_an_error_for_all_and_not_another_ones_vector(
    stage: Microbatch, callers: Callers, call: Callable[..., Call], held: Held
) -> None:
    first = callers.start(stage.run, call(by=ON), held)
    held.wait_for(1)

    def short(asked: Call) -> Answer:
        return embedded(asked.with_texts(asked.payload["texts"][:1]))

    members = [callers.start_and_wait(stage.run, call(by=ON), short) for _ in range(2)]
    held.let_go(0)

    first.result(10)
    assert all(isinstance(member.exception(10), Exception) for member in members)


def test_lanes_are_forgotten_when_nobody_is_in_them(go: Ask, held: Held, stage: Microbatch) -> None:
    futures = [go("а", waits=False), go("б", waits=True), go("в", waits=True, seconds=0.01)]
    held.let_all_go()
    for future in futures:
        future.exception(10)

    assert stage._lanes == {}


@pytest.mark.parametrize(
    ("kind", "by", "payload"),
    [
        ("embedding", DEFAULT_LOGIC, embedding_payload("чай")),
        ("embedding", ON, embedding_payload("чай", "мёд")),
        ("embedding", ON, embedding_payload("чай", ids=["1"])),
        ("rerank", ON, PAYLOADS["rerank"]),
    ],
)
def test_what_is_not_a_single_text_passes_untouched_and_never_waits(
    stage: Microbatch,
    call: Callable[..., Call],
    held: Held,
    callers: Callers,
    kind: str,
    by: Logic,
    payload: dict[str, Any],
) -> None:
    passing = call(kind, by=by, payload={"texts": ["чай"], **payload})
    futures = [callers.start(stage.run, passing, held) for _ in range(3)]

    held.wait_for(3)

    assert all(asked is passing for asked in held.asked)
    held.let_all_go()
    for future in futures:
        future.result(10)


def test_under_load_and_failures_each_caller_gets_its_own_and_nothing_hangs(stage: Microbatch) -> None:
    clock, by, lock = SystemClock(), switched_on(in_flight=2, max_texts=16), threading.Lock()
    model = by.model("embedding", None)
    running, most = 0, 0
    sizes: list[int] = []

    def then(call: Call) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            sizes.append(len(call.payload["texts"]))
            turn = len(sizes)
        try:
            # Others come while this one is under way.
            threading.Event().wait(0.001)
            if turn % 17 == 0:
                raise NoRoute()
            if turn % 23 == 0:
                raise SystemExit
            if any("плохой" in text for text in call.payload["texts"]):
                raise InvalidRequest("refused")
            if call.deadline.expired:
                raise DeadlineExceeded()
            return embedded(call)
        finally:
            with lock:
                running -= 1

    def caller(number: int) -> list[tuple[bool, bool, str]]:
        rng, outcomes = Random(number), []
        for turn in range(30):
            bad, hasty = rng.random() < 0.03, rng.random() < 0.1
            text = f"{'плохой' if bad else 'чай'} {number} {turn}"
            deadline = Deadline.after(0.001 if hasty else 20.0, clock)
            try:
                answer = stage.run(Call(by, "embedding", model, embedding_payload(text), deadline), then)
            except (GiftyComputeError, SystemExit) as error:
                outcomes.append((bad, hasty, type(error).__name__))
            else:
                own = np.array_equal(answer.result["embeddings"], [vector_of(text)])
                outcomes.append((bad, hasty, "its own vector" if own else "another one's"))
        return outcomes

    with ThreadPoolExecutor(32) as pool:
        outcomes = [outcome for some in pool.map(caller, range(32), timeout=60) for outcome in some]

    assert len(outcomes) == 32 * 30
    named = {name for _, _, name in outcomes}
    assert {"its own vector", "InvalidRequest", "NoRoute", "SystemExit"} <= named
    assert named <= {"its own vector", "InvalidRequest", "NoRoute", "SystemExit", "DeadlineExceeded"}
    assert not any(bad and name == "its own vector" for bad, _, name in outcomes)
    assert all(bad for bad, _, name in outcomes if name == "InvalidRequest")
    assert all(hasty for _, hasty, name in outcomes if name == "DeadlineExceeded")
    assert most == 2
    assert max(sizes) > 4
    assert stage._lanes == {}


def test_an_attempt_at_many_texts_has_the_time_that_they_need(call: Callable[..., Call]) -> None:
    """K10: the leader's single text needs less than its batch."""
    asked = call(seconds=60, attempt_seconds=2.1)

    many = asked.with_texts(["чайник электрический"] * 64)

    assert many.attempt_seconds is not None
    assert many.attempt_seconds > 5
    assert call().with_texts(["чай"]).attempt_seconds is None
