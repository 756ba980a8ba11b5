"""When a circuit opens, for how long, who closes it, and what other processes learn of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Reply, Site
from gifty_compute.routing.breaker import Breakers
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import failed


class Blackboard:
    """What several processes would see of each other."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.until: dict[str, float] = {}
        self.causes: dict[str, str] = {}
        self.resets: dict[str, float] = {}
        self.trials: set[str] = set()

    def remaining(self, name: str) -> float:
        return max(0.0, self.until.get(name, 0.0) - self._clock.monotonic())

    def half_open(self, name: str) -> bool:
        return name in self.until and self.until[name] <= self._clock.monotonic()

    def cause(self, name: str) -> str:
        return self.causes.get(name, "")

    def names(self) -> list[str]:
        return list(self.until)

    def reset(self, name: str) -> None:
        self.resets[name] = self._clock.monotonic()
        self.close(name)

    def was_reset(self, name: str, since: float) -> bool:
        return name in self.resets and self.resets[name] >= since

    def open(self, name: str, seconds: float, cause: str = "") -> None:
        self.until[name] = self._clock.monotonic() + seconds
        self.causes[name] = cause
        self.trials.discard(name)

    def give_up(self, name: str) -> None:
        self.trials.discard(name)

    def close(self, name: str) -> None:
        self.until.pop(name, None)
        self.trials.discard(name)

    def trial(self, name: str, seconds: float) -> bool:
        if name in self.trials:
            return False
        self.trials.add(name)
        return True


@pytest.fixture
def board(clock: HandClock) -> Blackboard:
    return Blackboard(clock)


@pytest.fixture
def breakers(clock: HandClock, board: Blackboard) -> Breakers:
    return Breakers(clock, board)


@pytest.fixture
def fail(
    breakers: Breakers, call: Callable[..., Call], candidate: Callable[..., Candidate]
) -> Callable[..., None]:
    def fail(error: ProviderError | None = None, *, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            breakers.left(candidate(), call(), Outcome(seconds, error=error or failed()))

    return fail


OK = Outcome(0.1, reply=Reply({}))


def test_it_opens_after_five_failures_in_a_row(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(times=4)
    assert breakers.wait(candidate(), call()) is None

    fail()
    assert breakers.wait(candidate(), call()).seconds == 15
    assert not breakers.enter(candidate(), call())


def test_a_success_in_between_begins_the_count_anew(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(times=4)
    breakers.left(candidate(), call(), OK)
    fail(times=4)

    assert breakers.wait(candidate(), call()) is None


def test_one_error_that_only_the_operator_can_mend_opens_it_for_minutes(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        fail(failed(Failure.CONFIG, "bad_key"))

    assert breakers.wait(candidate(), call()).seconds == 300
    assert "bad_key" in caplog.text
    assert "secret" not in caplog.text


def test_a_retry_after_is_kept_to_the_second(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(failed(Failure.RETRY, "rate_limited", wait=7))

    assert breakers.wait(candidate(), call()).seconds == 7
    clock.advance(7)
    assert breakers.wait(candidate(), call()) is None


def test_a_provider_that_asks_for_hours_is_tried_again_after_minutes(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    """P31: one 503 with Retry-After 3600 closed a healthy provider for an hour."""
    fail(failed(Failure.RETRY, "rate_limited", wait=1e6))

    assert breakers.wait(candidate(), call()).seconds == 300


def test_half_open_lets_one_trial_through_and_its_success_closes(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(times=5)
    clock.advance(15)

    assert breakers.wait(candidate(), call()) is None
    assert breakers.enter(candidate(), call())
    assert not breakers.enter(candidate(), call())
    assert breakers.wait(candidate(), call()).seconds == 30

    breakers.left(candidate(), call(), OK)
    assert breakers.wait(candidate(), call()) is None
    assert breakers.states() == {candidate().circuit: "closed"}


def test_half_open_opens_again_with_the_first_failure(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(times=5)
    clock.advance(15)
    assert breakers.enter(candidate(), call())

    fail()

    assert breakers.wait(candidate(), call()).seconds == 15


def test_a_trial_whose_caller_vanished_is_given_up(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    board: Blackboard,
) -> None:
    fail(times=5)
    clock.advance(15)
    assert breakers.enter(candidate(), call())
    clock.advance(30)
    board.trials.clear()

    assert breakers.enter(candidate(), call())


def test_a_refused_request_is_a_sign_of_life(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(times=4)
    fail(failed(Failure.FATAL, "bad_request"))
    fail(times=4)

    assert breakers.wait(candidate(), call()) is None


def test_callers_with_hardly_any_time_open_nothing(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(failed(code="timeout"), times=50, seconds=0.39)
    assert breakers.wait(candidate(), call()) is None

    fail(failed(code="timeout"), times=5, seconds=0.4)
    assert breakers.wait(candidate(), call()).seconds == 15


def test_keys_and_kinds_have_circuits_of_their_own(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(times=5)

    assert breakers.wait(candidate(key="2"), call()) is None
    assert breakers.wait(candidate(kind="rerank"), call("rerank")) is None


def test_an_edited_model_id_is_tried_at_once(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(failed(Failure.CONFIG, "not_found"))
    mended = parse_logic("models: {bge-m3: {providers: {runpod: BAAI/bge-m3}}}")

    assert breakers.wait(candidate(), call()).seconds == 300
    assert breakers.wait(candidate(by=mended), call(by=mended)) is None


def test_another_process_learns_that_it_is_open_and_that_it_is_closed(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    board: Blackboard,
) -> None:
    other = Breakers(clock, board)
    fail(times=5)
    assert other.wait(candidate(), call()).seconds == 15

    clock.advance(15)
    assert breakers.enter(candidate(), call())
    breakers.left(candidate(), call(), OK)
    assert other.wait(candidate(), call()) is None


def test_of_two_processes_with_a_half_open_circuit_one_makes_the_trial(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    board: Blackboard,
) -> None:
    other = Breakers(clock, board)
    fail(times=5)
    for _ in range(5):
        other.left(candidate(), call(), Outcome(1.0, error=failed()))
    clock.advance(15)

    assert [breakers.enter(candidate(), call()), other.enter(candidate(), call())] == [True, False]


def test_a_process_that_saw_no_failure_itself_makes_one_trial_and_frees_all(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    board: Blackboard,
) -> None:
    other = Breakers(clock, board)
    fail(times=5)
    clock.advance(15)

    entered = [other.enter(candidate(), call()) for _ in range(3)]
    other.left(candidate(), call(), OK)

    assert entered == [True, False, False]
    assert other.wait(candidate(), call()) is None
    assert [other.enter(candidate(), call()) for _ in range(3)] == [True, True, True]
    assert board.until == {}


def test_who_was_not_given_the_trial_looks_again_soon(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    board: Blackboard,
) -> None:
    other = Breakers(clock, board)
    fail(times=5)
    clock.advance(15)
    assert other.enter(candidate(), call())
    assert not breakers.enter(candidate(), call())
    other.left(candidate(), call(), OK)

    assert breakers.wait(candidate(), call()).seconds == 1
    clock.advance(1)

    assert breakers.enter(candidate(), call())


def test_after_a_failed_trial_there_is_another_as_soon_as_the_circuits_time_is_over(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(times=5)
    clock.advance(15)
    assert breakers.enter(candidate(), call())
    fail()
    clock.advance(15)

    assert breakers.wait(candidate(), call()) is None
    assert breakers.enter(candidate(), call())


def test_a_trial_that_had_too_little_time_to_show_anything_leaves_room_for_another(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(times=5)
    clock.advance(15)
    assert breakers.enter(candidate(), call())

    fail(failed(code="timeout"), seconds=0.1)

    assert breakers.enter(candidate(), call())


def test_names_that_callers_invent_are_not_remembered_for_ever(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gifty_compute.routing.breaker._MOST_CIRCUITS", 3)
    fail(times=5)

    for number in range(10):
        breakers.left(candidate(key=f"invented-{number}"), call(), Outcome(0.1, error=failed()))

    assert len(breakers.states()) == 3
    assert breakers.wait(candidate(), call()), "an open circuit was forgotten for one that is closed"


# -- why it is open, and closing it by hand (friction 4) -----------------------------------------------------


def test_it_says_why_it_is_open_and_keeps_the_providers_own_words_for_operators(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(times=3)
    fail(ProviderError(code="http_503", status=503, reason="model is warming up"), times=2)
    clock.advance(3)

    [state] = breakers.all()

    assert breakers.wait(candidate(), call()) == (12, "http_503 (5 failures)")
    assert (state.provider, state.state, state.seconds_left) == ("runpod", "open", 12)
    assert (state.failures, state.code, state.status) == (5, "http_503", 503)
    assert state.reason == "model is warming up"


def test_another_process_says_it_too(
    board: Blackboard,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    other = Breakers(clock, board)
    fail(ProviderError(failure=Failure.CONFIG, code="bad_key", status=401, reason="invalid api key"))

    [state] = other.all()

    assert other.wait(candidate(), call()) == (300, "bad_key")
    assert (state.state, state.status, state.reason) == ("open", 401, "invalid api key")


@pytest.mark.parametrize("written", ["", "{}", "7", '"x"', '{"code": "a"}', "{"])
def test_a_mark_that_cannot_be_read_still_counts(
    board: Blackboard,
    breakers: Breakers,
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    written: str,
) -> None:
    board.open(candidate().circuit, 9, written)

    assert breakers.wait(candidate(), call()) == (9, "open in another process")


@pytest.mark.parametrize("name", ["runpod", None])
def test_closed_by_hand_it_is_closed_in_every_process(
    breakers: Breakers,
    board: Blackboard,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    name: str | None,
) -> None:
    other = Breakers(clock, board)
    other.left(candidate(), call(), Outcome(1, error=failed(Failure.CONFIG, "bad_key")))
    fail(failed(Failure.CONFIG, "bad_key"))
    clock.advance(1)

    closed = breakers.close(name or candidate().circuit)

    assert closed == [candidate().circuit]
    for one in (breakers, other):
        assert one.wait(candidate(), call()) is None
        assert one.enter(candidate(), call())
        assert one.all() == []


def test_closed_by_hand_it_opens_again_if_nothing_has_changed(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
) -> None:
    fail(failed(Failure.CONFIG, "bad_key"))
    clock.advance(1)
    breakers.close("runpod")
    clock.advance(1)

    fail(failed(Failure.CONFIG, "bad_key"))

    assert breakers.wait(candidate(), call()) == (300, "bad_key")


@pytest.mark.parametrize("name", ["openrouter", "runpod/1", ""])
def test_of_a_name_that_is_no_open_circuit_nothing_is_closed(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    name: str,
) -> None:
    fail(failed(Failure.CONFIG, "bad_key"))

    assert breakers.close(name) == []
    assert breakers.wait(candidate(), call()) is not None


def test_failures_that_did_not_open_it_yet_are_listed(breakers: Breakers, fail: Callable[..., None]) -> None:
    fail(times=2)

    [state] = breakers.all()

    assert (state.state, state.failures, state.code) == ("closed", 2, "overloaded")


def test_a_changed_key_begins_with_a_closed_circuit(candidate: Callable[..., Candidate]) -> None:
    offer = candidate().offer

    old, new = (Candidate(offer, Site("http://runpod", "1", key)) for key in ("sk-old-key", "sk-new-key"))

    assert old.circuit != new.circuit
    assert "key" not in old.circuit


@pytest.mark.parametrize("code", ["overloaded", "timeout"])
def test_work_of_our_own_that_stands_in_the_way_opens_no_circuit(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    code: str,
) -> None:
    """K8: one caller with little time made the packaged model a 503 for all others, in all processes."""
    fail(ProviderError(code=code, retry_after=4, is_load=True), times=10, seconds=5)

    assert breakers.wait(candidate(), call()) is None
    assert breakers.enter(candidate(), call())


def test_a_stream_that_we_ended_because_it_was_too_long_is_no_failure_of_its_provider(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
) -> None:
    fail(failed(code="stream_too_long"), times=9, seconds=3600)

    assert breakers.wait(candidate(), call()) is None


@pytest.mark.parametrize("was_open", [False, True])
def test_a_retry_after_of_0_does_not_keep_a_circuit_closed(
    breakers: Breakers,
    fail: Callable[..., None],
    call: Callable[..., Call],
    candidate: Callable[..., Candidate],
    clock: HandClock,
    was_open: bool,
) -> None:
    """`Retry-After: 0`, or a date that is past, with every answer: the provider was asked for ever."""
    if was_open:
        fail(times=5)
        clock.advance(15)
        assert breakers.enter(candidate(), call())
    fail(failed(Failure.FAILOVER, "overloaded", wait=0.0), times=1 if was_open else 5)

    assert breakers.wait(candidate(), call()).seconds == 15
