"""What is tried again, how often and how late: the plans, with a clock that only pauses move."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gifty_compute.client import calls
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import (
    ApiError,
    Busy,
    DeadlinePassed,
    InConflict,
    NotAllowed,
    NotThere,
    Refused,
    ServiceFault,
    Unreachable,
    UpstreamFailed,
    error_of,
)
from gifty_compute.client.plans import Plan, Plans, Send, follow
from gifty_compute.wire.task import Task
from tests.unit.conftest import HandClock

NOW = "2026-01-01T00:00:00Z"
ID = "3f2a0000-0000-4000-8000-000000000000"

embed = calls.embeddings(["чай"], model=None, input_type=None, timeout=10)
submit = calls.submit("embedding", {"texts": ["чай"]})

silence = Unreachable("nobody answered")
closed = Unreachable("nobody is there", sent=False)
ours = error_of(503, {"Retry-After": "2"}, {"error": {"code": "unavailable", "message": "later"}})
proxys = error_of(503, {}, None)
full = error_of(429, {"Retry-After": "60"}, {"error": {"code": "queue_full", "message": "later"}})


def task(status: str = "pending") -> Task:
    about = {"task_type": "embedding", "priority": "low", "created_at": NOW, "updated_at": NOW}
    counts = {"attempt": 0, "failures": 0, "max_attempts": 5}
    return Task.model_validate({"id": ID, "status": status, "payload": {}, **about, **counts})


class Service:
    """Gives these answers and raises these errors in order, each after so many seconds; the last for ever."""

    def __init__(self, clock: HandClock, *answers: Any, seconds: float = 0.0) -> None:
        self._clock, self._answers, self._seconds = clock, list(answers), seconds
        self.tries: list[Send[Any]] = []
        self.pauses: list[float] = []

    def send(self, step: Send[Any]) -> Any:
        self.tries.append(step)
        self._clock.advance(self._seconds)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if callable(answer):
            answer = answer(step)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._clock.advance(seconds)

    def follow(self, plan: Plan[Any]) -> Any:
        return follow(plan, self.send, self.sleep)


@pytest.fixture
def plans(clock: HandClock) -> Plans:
    return Plans(75, clock, Random(1))


@pytest.fixture
def service(clock: HandClock) -> Callable[..., Service]:
    return lambda *answers, **how: Service(clock, *answers, **how)


# -- one call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "tries"),
    [
        (embed, closed, 3),
        (embed, ours, 3),
        (embed, silence, 1),
        (embed, proxys, 1),
        (embed, UpstreamFailed(status=502), 1),
        (embed, DeadlinePassed(status=504), 1),
        (embed, ServiceFault(status=500), 1),
        (submit, closed, 3),
        (submit, ours, 3),
        (submit, silence, 3),
        (submit, proxys, 3),
        (submit, UpstreamFailed(status=502), 3),
        (submit, ServiceFault(status=500), 3),
        (submit, ServiceFault(status=200), 1),
        (submit, Refused(status=422), 1),
        (submit, NotAllowed(status=401), 1),
        (submit, NotThere(status=404), 1),
        (submit, InConflict(status=409), 1),
        (calls.cancel(ID), silence, 3),
        (calls.retry(ID), silence, 1),
        (calls.retry(ID), closed, 3),
        (calls.task(ID), silence, 3),
        (calls.tasks(), silence, 3),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, ApiError) else str(value),
)
def test_only_what_nobody_began_or_may_be_done_twice_is_sent_again(
    plans: Plans, service: Callable[..., Service], call: ApiCall[Any], error: Exception, tries: int
) -> None:
    there = service(error)

    with pytest.raises(type(error)) as raised:
        there.follow(plans.trying(call))

    assert raised.value is error
    assert len(there.tries) == tries


def test_the_second_try_is_the_answer(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(closed, "answer")

    assert there.follow(plans.trying(embed)) == "answer"
    assert len(there.pauses) == 1


def test_retry_after_is_waited_out_and_a_little_more(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(ours, "answer")

    there.follow(plans.trying(embed))

    assert 2 < there.pauses[0] < 3


def test_nobody_waits_longer_than_the_timeout(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(full)

    with pytest.raises(Busy) as busy:
        there.follow(plans.trying(embed))

    assert (busy.value.retry_after, there.pauses) == (60, [])


def test_a_later_try_has_less_time_and_the_service_is_told(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service(closed, "answer", seconds=4)

    there.follow(plans.trying(embed))

    first, second = there.tries
    assert first.seconds == 10
    assert 5 < second.seconds < 6
    assert b'"timeout_ms":9000' in (first.call.content(first.seconds) or b"")
    assert b'"timeout_ms":%d' % int(second.seconds * 900) in (second.call.content(second.seconds) or b"")


def test_a_submit_keeps_its_key_over_all_tries(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(silence, silence, "task")

    there.follow(plans.trying(submit))

    assert len({step.call.headers["Idempotency-Key"] for step in there.tries}) == 1


def too_long(most_ms: int | None) -> ApiError:
    headers = {} if most_ms is None else {"X-Gifty-Max-Timeout-Ms": str(most_ms)}
    told = {"code": "timeout_too_long", "message": "at most", "param": "timeout_ms"}
    return error_of(422, headers, {"error": told})


def told_ms(step: Send[Any]) -> int | None:
    found: int | None = json.loads(step.call.content(step.seconds) or b"{}").get("timeout_ms")
    return found


def test_a_timeout_that_the_service_refuses_is_its_longest_then_and_from_then_on(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service(too_long(5000), "answer")

    assert there.follow(plans.trying(embed)) == "answer"
    assert there.follow(plans.trying(embed)) == "answer"

    assert [told_ms(step) for step in there.tries] == [9000, 5000, 5000]


def test_a_service_that_does_not_say_its_longest_timeout_is_told_none(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service(too_long(None), "answer")

    assert there.follow(plans.trying(embed)) == "answer"
    assert [told_ms(step) for step in there.tries] == [9000, None]


def test_a_timeout_that_is_refused_twice_is_an_error(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(too_long(5000))

    with pytest.raises(Refused):
        there.follow(plans.trying(embed))

    assert len(there.tries) == 2


def portions(count: int, timeout: float | None) -> list[ApiCall[Any]]:
    texts = ["чай"] * 1024 * count
    return calls.embeddings_in_portions(texts, model=None, input_type=None, timeout=timeout)


def test_portions_are_sent_in_order_and_share_the_timeout_that_the_caller_names(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service("a", "b", "c", seconds=3)

    assert there.follow(plans.in_order(portions(3, 10), 10, "".join)) == "abc"
    assert [step.seconds for step in there.tries] == [10, 7, 4]


def test_a_portion_that_fails_says_where_it_begins_in_the_callers_list(
    plans: Plans, service: Callable[..., Service]
) -> None:
    """`input.976: text is empty` was said of the text 2000."""
    there = service("a", Refused("input.976: text is empty", status=422, code="empty_text"))

    with pytest.raises(Refused) as refused:
        there.follow(plans.in_order(portions(2, 10), 10, "".join))

    assert refused.value.__notes__ == ["in call 2 of 2: its positions count from position 1024 of the list"]


def test_portions_without_a_timeout_have_the_clients_own_each(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service("a", "b", seconds=50)

    assert there.follow(plans.in_order(portions(2, None), None, "".join)) == "ab"
    assert [step.seconds for step in there.tries] == [75, 75]


def test_where_the_time_of_all_portions_is_over_no_more_is_sent(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service("a", seconds=10)

    with pytest.raises(Unreachable, match="the time of 10 s was over after 1 of 3 calls"):
        there.follow(plans.in_order(portions(3, 10), 10, "".join))

    assert len(there.tries) == 1


# -- an outage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [silence, closed, proxys, UpstreamFailed(status=502)], ids=str)
def test_an_outage_of_minutes_is_sat_out(
    plans: Plans, service: Callable[..., Service], clock: HandClock, error: Exception
) -> None:
    back = clock.monotonic() + 200
    there = service(lambda _: "answer" if clock.monotonic() > back else error)

    assert there.follow(plans.patiently(submit)) == "answer"
    assert max(there.pauses) <= 20


def test_an_outage_has_an_end(plans: Plans, service: Callable[..., Service], clock: HandClock) -> None:
    began = clock.monotonic()
    there = service(closed)

    with pytest.raises(Unreachable):
        there.follow(plans.patiently(submit))

    assert 200 < clock.monotonic() - began <= 300


def test_a_full_queue_is_no_outage(plans: Plans, service: Callable[..., Service], clock: HandClock) -> None:
    free = clock.monotonic() + 3600
    there = service(lambda _: "task" if clock.monotonic() > free else full)

    assert there.follow(plans.patiently(submit)) == "task"


def test_what_cannot_pass_is_raised_at_once(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(NotAllowed(status=401))

    with pytest.raises(NotAllowed):
        there.follow(plans.patiently(submit))

    assert len(there.tries) == 1


# -- an earlier run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "processing", "completed"])
def test_a_task_that_is_found_again_is_taken_as_it_is(
    plans: Plans, service: Callable[..., Service], status: str
) -> None:
    assert service(task(status)).follow(plans.resuming(submit)).status == status


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_one_that_came_to_nothing_is_retried(
    plans: Plans, service: Callable[..., Service], status: str
) -> None:
    there = service(task(status), task("pending"))

    assert there.follow(plans.resuming(submit)).status == "pending"
    assert [str(step.call) for step in there.tries] == ["POST /v1/tasks", f"POST /v1/tasks/{ID}/retry"]


def test_who_is_late_with_a_retry_takes_the_task_as_it_is_then(
    plans: Plans, service: Callable[..., Service]
) -> None:
    there = service(task("failed"), InConflict(status=409), task("processing"))

    assert there.follow(plans.resuming(submit)).status == "processing"


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_task_that_has_ended_is_not_asked_for(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(task())

    assert there.follow(plans.waiting(task("completed"), 60)).status == "completed"
    assert there.tries == []


def test_waiting_for_no_time_looks_once(plans: Plans, service: Callable[..., Service]) -> None:
    there = service(task())

    assert there.follow(plans.waiting(task(), 0)).status == "pending"
    assert [step.call.query for step in there.tries] == [{}]


def test_one_call_waits_for_less_than_proxies_allow(
    plans: Plans, service: Callable[..., Service], clock: HandClock
) -> None:
    def answer(step: Send[Any]) -> Task:
        clock.advance(float(step.call.query["wait"]))
        return task()

    there = service(answer)
    there.follow(plans.waiting(task(), 60))

    assert [step.call.query["wait"] for step in there.tries] == ["25.000", "25.000", "10.000"]
    assert all(step.seconds > float(step.call.query["wait"]) for step in there.tries)
    assert there.pauses == []


def test_a_service_that_answers_early_is_not_asked_without_a_pause(
    plans: Plans, service: Callable[..., Service]
) -> None:
    """It does so when too many callers wait."""
    there = service(task(), seconds=0.01)

    there.follow(plans.waiting(task(), 60))

    assert len(there.tries) < 20
    assert sum(there.pauses) > 50


def test_waiting_sits_out_an_outage_but_not_longer_than_it_may(
    plans: Plans, service: Callable[..., Service], clock: HandClock
) -> None:
    back = clock.monotonic() + 100
    there = service(lambda _: task("completed") if clock.monotonic() > back else closed)
    assert there.follow(plans.waiting(task(), math.inf)).status == "completed"

    began = clock.monotonic()
    with pytest.raises(Unreachable):
        service(closed).follow(plans.waiting(task(), 20))
    assert clock.monotonic() - began <= 20
