"""Who is asked next, how often, with how much time, and what is said when nobody answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gifty_compute.clock import Deadline
from gifty_compute.errors import (
    DeadlineExceeded,
    Failure,
    InvalidRequest,
    NoRoute,
    ProviderError,
    ProvidersLimited,
    Unavailable,
)
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Reply
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.routing.walk import Success, Walk
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import failed

ROUTE = ("runpod", "intelligence_api", "openrouter")


class Script:
    """What each provider does when it is asked: a list of answers, errors, or seconds that it hangs."""

    def __init__(self, clock: HandClock, **doings: list[Any]) -> None:
        self._clock, self._doings = clock, doings
        self.asked: list[str] = []
        self.budgets: list[float] = []

    def __call__(self, candidate: Candidate, deadline: Deadline) -> tuple[str, Reply | None]:
        self.asked.append(candidate.name)
        self.budgets.append(deadline.remaining)
        doing = self._doings.get(candidate.name, ["answer"]).pop(0)
        if isinstance(doing, int | float):
            self._clock.advance(min(doing, deadline.remaining))
            raise failed(code="timeout")
        if isinstance(doing, Exception):
            raise doing
        return doing, Reply({})


class Notes:
    """A guard that refuses whom it is told to, and notes what it learns."""

    def __init__(self, **waits: float) -> None:
        self.waits = waits
        self.entered: list[str] = []
        self.learnt: list[tuple[str, str]] = []

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        seconds = self.waits.get(candidate.name)
        return Wait(seconds, "left alone by a guard") if seconds else None

    def enter(self, candidate: Candidate, call: Call) -> bool:
        self.entered.append(candidate.name)
        return True

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        self.learnt.append((candidate.name, outcome.error.code if outcome.error else "ok"))


class Patience(Notes):
    """A guard that leaves a provider alone for as long as it asked, as its circuit does."""

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        super().left(candidate, call, outcome)
        if outcome.error is not None and outcome.error.retry_after is not None:
            self.waits[candidate.name] = outcome.error.retry_after


@pytest.fixture
def walk(call: Callable[..., Call], candidate: Callable[..., Candidate]) -> Callable[..., Success[str]]:
    def run(
        script: Script,
        *guards: Any,
        route: tuple[str, ...] = ROUTE,
        seconds: float = 2,
        text: str = "llm: {}",
    ) -> Success[str]:
        candidates = [candidate(name) for name in route]
        call_ = call(seconds=seconds, by=parse_logic(text))
        return Walk(call_, candidates, guards, guards, script, Random(1)).run()

    return run


def test_the_first_one_answers_and_nobody_else_is_asked(walk: Any, clock: HandClock) -> None:
    script = Script(clock)

    found = walk(script)

    assert (found.value, found.candidate.name, found.attempts) == ("answer", "runpod", 1)
    assert script.asked == ["runpod"]


def test_after_a_failure_the_next_one_is_asked_at_once(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[failed()])

    found = walk(script)

    assert (found.candidate.name, found.attempts) == ("intelligence_api", 2)
    assert clock.monotonic() == 1000


def test_an_attempt_gets_half_of_what_is_left_and_the_last_one_all(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[99], intelligence_api=[99], openrouter=[99])

    with pytest.raises(DeadlineExceeded) as caught:
        walk(script)

    assert script.budgets == [1, 0.5, 0.5]
    assert clock.monotonic() == 1002
    assert caught.value.message == (
        "no answer within the deadline (runpod: timeout; intelligence_api: timeout; openrouter: timeout)"
    )


def test_an_attempt_gets_no_more_than_the_work_needs_while_another_one_remains(
    call: Callable[..., Call], candidate: Callable[..., Candidate], clock: HandClock
) -> None:
    """A caller with much time does not lose half of it to the first provider that hangs."""
    script = Script(clock, runpod=[99], intelligence_api=[99])
    candidates = [candidate(name) for name in ROUTE]

    Walk(call(seconds=60, attempt_seconds=2), candidates, (), (), script, Random(1)).run()

    assert script.budgets == [2, 2, 56]


def test_where_all_others_must_be_left_alone_the_one_that_remains_gets_all(
    walk: Any, clock: HandClock
) -> None:
    script = Script(clock)

    walk(script, Notes(intelligence_api=5, openrouter=5))

    assert script.budgets == [2]


def test_retry_is_one_more_try_at_the_same_provider_after_a_pause(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[failed(Failure.RETRY, "http_500"), "answer"])

    found = walk(script)

    assert (script.asked, found.attempts) == (["runpod", "runpod"], 2)
    assert 1000 < clock.monotonic() <= 1000.1


def test_a_second_retry_is_never_made(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[failed(Failure.RETRY, "http_500")] * 2)

    assert walk(script).candidate.name == "intelligence_api"
    assert script.asked == ["runpod", "runpod", "intelligence_api"]


def limited(wait: float | None = None) -> ProviderError:
    return failed(Failure.FAILOVER if wait is None else Failure.RETRY, "rate_limited", wait=wait)


@pytest.mark.parametrize("wait", [0.3, 10.0])
def test_a_provider_that_asks_for_time_is_not_waited_for_while_another_one_can_answer(
    walk: Any, clock: HandClock, wait: float
) -> None:
    """P24: own asks for ten seconds, own2 is healthy."""
    script = Script(clock, runpod=[limited(wait)])

    assert walk(script, seconds=60).candidate.name == "intelligence_api"
    assert clock.monotonic() == 1000


def test_the_only_provider_is_waited_for_where_the_wait_is_short(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[limited(0.5), "answer"])

    assert walk(script, route=("runpod",)).candidate.name == "runpod"
    assert clock.monotonic() == 1000.5
    assert script.budgets == [2, 1.5]


@pytest.mark.parametrize(("wait", "seconds"), [(0.6, 2), (2.1, 60), (30, 60)])
def test_a_wait_beyond_two_seconds_or_a_quarter_of_the_time_is_the_callers_to_make(
    walk: Any, clock: HandClock, wait: float, seconds: float
) -> None:
    with pytest.raises(ProvidersLimited) as caught:
        walk(Script(clock, runpod=[limited(wait)]), route=("runpod",), seconds=seconds)

    assert caught.value.retry_after == wait
    assert clock.monotonic() == 1000


def test_a_provider_is_waited_for_once(walk: Any, clock: HandClock) -> None:
    with pytest.raises(ProvidersLimited):
        walk(Script(clock, runpod=[limited(0.3), limited(0.3)]), route=("runpod",))

    assert clock.monotonic() == 1000.3


def test_where_all_others_failed_the_one_that_asked_for_a_short_time_is_asked_again(
    walk: Any, clock: HandClock
) -> None:
    script = Script(
        clock, runpod=[limited(0.4), "answer"], intelligence_api=[failed()], openrouter=[limited(0.5)]
    )

    assert walk(script).candidate.name == "runpod"
    assert script.asked == ["runpod", "intelligence_api", "openrouter", "runpod"]
    assert clock.monotonic() == 1000.4


def test_when_all_are_at_their_limit_the_caller_is_told_at_once_and_the_shortest_wait(
    walk: Any, clock: HandClock
) -> None:
    """P23: it took both waits, and then there was no Retry-After."""
    script = Script(clock, runpod=[limited(7)], intelligence_api=[limited(9)], openrouter=[limited()])

    with pytest.raises(ProvidersLimited, match="runpod: rate_limited; intelligence_api") as caught:
        walk(script, seconds=60)

    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 7)
    assert script.asked == list(ROUTE)
    assert clock.monotonic() == 1000


def test_those_that_ask_for_time_for_another_reason_make_it_unavailable(walk: Any, clock: HandClock) -> None:
    script = Script(
        clock,
        runpod=[limited(7)],
        intelligence_api=[failed(code="overloaded", wait=5)],
        openrouter=[failed(code="overloaded", wait=50)],
    )

    with pytest.raises(Unavailable) as caught:
        walk(script, Patience(), seconds=60)

    assert not isinstance(caught.value, ProvidersLimited)
    assert caught.value.retry_after == 5


@pytest.mark.parametrize("others", [{}, {"intelligence_api": 14.0}])
def test_a_model_of_ours_that_is_busy_is_unavailable_for_as_long_as_it_says(
    walk: Any, clock: HandClock, others: dict[str, float]
) -> None:
    """P26: no guard holds it back, since its load says nothing of it; the caller meets our own load."""
    busy = ProviderError(code="overloaded", retry_after=3, is_load=True)
    script = Script(clock, runpod=[busy])

    with pytest.raises(Unavailable, match="runpod: overloaded") as caught:
        walk(script, Notes(**others), route=("runpod", *others))

    assert caught.value.retry_after == 3


def test_a_bad_request_is_put_to_one_other_provider(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[failed(Failure.FATAL, "bad_request")])

    assert walk(script).candidate.name == "intelligence_api"


def test_two_opinions_are_enough(walk: Any, clock: HandClock) -> None:
    bad = failed(Failure.FATAL, "bad_request")
    script = Script(clock, runpod=[bad], intelligence_api=[bad])

    with pytest.raises(InvalidRequest) as caught:
        walk(script)

    assert caught.value.code == "rejected_by_provider"
    assert script.asked == ["runpod", "intelligence_api"]


def test_the_only_opinion_is_believed(walk: Any, clock: HandClock) -> None:
    script = Script(clock, runpod=[failed(Failure.FATAL, "refused")])

    with pytest.raises(InvalidRequest) as caught:
        walk(script, route=("runpod",))

    assert caught.value.code == "refused"


def test_the_opinion_of_one_is_not_the_callers_fault_where_others_failed_otherwise(
    walk: Any, clock: HandClock
) -> None:
    script = Script(
        clock,
        runpod=[failed(Failure.FATAL, "bad_request")],
        intelligence_api=[failed(Failure.CONFIG, "bad_key")],
        openrouter=[failed(code="overloaded")],
    )

    with pytest.raises(NoRoute) as caught:
        walk(script)

    assert caught.value.code == "overloaded"
    assert "runpod: bad_request; intelligence_api: bad_key; openrouter: overloaded" in caught.value.message


def test_what_a_provider_can_never_take_is_said_only_if_nobody_can(walk: Any, clock: HandClock) -> None:
    never = InvalidRequest("a text is too long here", param="texts", code="text_too_long")

    assert walk(Script(clock, runpod=[never])).candidate.name == "intelligence_api"
    with pytest.raises(InvalidRequest, match="too long here"):
        walk(Script(clock, runpod=[never]), route=("runpod",))


def test_when_nobody_wants_the_answer_any_more_no_other_provider_is_asked(
    call: Callable[..., Call], candidate: Callable[..., Candidate], clock: HandClock
) -> None:
    dropped = threading.Event()

    class Dropped(Script):
        def __call__(self, candidate: Candidate, deadline: Deadline) -> tuple[str, Reply | None]:
            dropped.set()
            return super().__call__(candidate, deadline)

    script = Dropped(clock, runpod=[failed()])
    candidates = [candidate(name) for name in ROUTE]

    with pytest.raises(NoRoute):
        Walk(call(dropped=dropped), candidates, (), (), script, Random(1)).run()

    assert script.asked == ["runpod"]


def test_attempts_are_bounded(walk: Any, clock: HandClock) -> None:
    retry = [failed(Failure.RETRY, "http_500")] * 2
    script = Script(clock, runpod=[*retry], intelligence_api=[*retry], openrouter=[*retry])

    with pytest.raises(NoRoute):
        walk(script, text="routing: {max_attempts: 3}")

    assert script.asked == ["runpod", "runpod", "intelligence_api"]


def test_the_last_attempt_that_is_allowed_gets_all_the_time(walk: Any, clock: HandClock) -> None:
    script = Script(clock)

    walk(script, text="routing: {max_attempts: 1}")

    assert script.budgets == [2]


def test_a_timeout_a_moment_before_the_deadline_is_the_deadlines(walk: Any, clock: HandClock) -> None:
    """libcurl counts whole milliseconds."""

    class Early(Script):
        def __call__(self, candidate: Candidate, deadline: Deadline) -> tuple[str, Reply | None]:
            clock.advance(deadline.remaining - 0.0004)
            raise failed(code="timeout")

    with pytest.raises(DeadlineExceeded, match="openrouter: timeout"):
        walk(Early(clock))


def test_nobody_is_asked_after_the_deadline(walk: Any, clock: HandClock) -> None:
    script = Script(clock)

    with pytest.raises(DeadlineExceeded, match="no provider was asked"):
        walk(script, seconds=0)

    assert script.asked == []


def test_who_must_be_left_alone_is_passed_over_and_not_counted(walk: Any, clock: HandClock) -> None:
    guard = Notes(runpod=9.0)

    found = walk(Script(clock), guard)

    assert (found.candidate.name, found.attempts) == ("intelligence_api", 1)
    assert guard.entered == ["intelligence_api"]


def test_when_all_must_be_left_alone_the_caller_learns_the_shortest_wait(walk: Any, clock: HandClock) -> None:
    script = Script(clock)

    with pytest.raises(Unavailable) as caught:
        walk(script, Notes(runpod=9, intelligence_api=4, openrouter=60))

    assert caught.value.retry_after == 4
    assert script.asked == []


def test_when_all_asked_for_patience_just_now_it_is_the_same(walk: Any, clock: HandClock) -> None:
    def busy(wait: float) -> ProviderError:
        return failed(Failure.RETRY, "rate_limited", wait=wait)

    script = Script(clock, runpod=[busy(30)], intelligence_api=[busy(20)], openrouter=[busy(40)])

    with pytest.raises(Unavailable) as caught:
        walk(script, Patience())

    assert caught.value.retry_after == 20


def test_guards_learn_how_each_attempt_went(walk: Any, clock: HandClock) -> None:
    guard = Notes()

    walk(Script(clock, runpod=[failed(code="connection_lost")]), guard)

    assert guard.learnt == [("runpod", "connection_lost"), ("intelligence_api", "ok")]


def test_the_error_that_is_waited_out_opens_no_circuit(walk: Any, clock: HandClock) -> None:
    outcomes: list[Outcome] = []

    class Keep(Notes):
        def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
            outcomes.append(outcome)

    script = Script(clock, runpod=[failed(Failure.RETRY, "rate_limited", wait=0.5), "answer"])

    walk(script, Keep(), route=("runpod",))

    assert outcomes[0].error is not None
    assert outcomes[0].error.retry_after is None


# -- what is told of providers that are left alone (friction 4) ----------------------------------------------


class Held(Notes):
    """A guard that holds back each of these, and says why."""

    def __init__(self, **held: Wait) -> None:
        super().__init__()
        self.held = held

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        return self.held.get(candidate.name)


def test_where_all_are_left_alone_each_is_named_with_reason_and_seconds(walk: Any, clock: HandClock) -> None:
    script = Script(clock)
    guard = Held(
        runpod=Wait(286.2, "bad_key"),
        intelligence_api=Wait(12, "http_503 (3 failures)"),
        together=Wait(40, "its budget of today is spent"),
        openrouter=Wait(3, "rate_limited"),
    )

    with pytest.raises(Unavailable) as caught:
        walk(script, guard)

    said = str(caught.value)
    assert "runpod: bad_key, 287 s left" in said
    assert "nobody" not in said
    assert script.asked == []


def test_one_that_is_left_alone_is_named_beside_those_that_failed(walk: Any, clock: HandClock) -> None:
    script = Script(clock, intelligence_api=[failed(code="http_500")])
    guard = Held(runpod=Wait(286.2, "bad_key"))

    with pytest.raises(NoRoute) as caught:
        walk(script, guard, route=("runpod", "intelligence_api"))

    assert (
        str(caught.value) == "every provider failed (intelligence_api: http_500; runpod: bad_key, 287 s left)"
    )


def test_a_failed_attempt_is_one_line_with_all_that_an_operator_needs(
    walk: Any, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    error = ProviderError(
        failure=Failure.CONFIG, code="bad_key", status=401, reason="invalid api key", retry_after=7
    )

    with caplog.at_level(logging.WARNING), pytest.raises(NoRoute) as caught:
        walk(Script(clock, runpod=[error]), route=("runpod",))

    [line] = [vars(record) for record in caplog.records if "failed" in record.getMessage()]
    expected = {
        "provider": "runpod",
        "kind": "embedding",
        "code": "bad_key",
        "status": 401,
        "reason": "invalid api key",
        "retry_after": 7,
    }
    assert {name: line[name] for name in expected} == expected
    assert line["model"]
    assert "invalid api key" not in str(caught.value), "a provider's own words are for operators"
