"""The loop's own decisions, with a scripted source and an event that notes the waits instead of waiting."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.errors import EngineError, GiftyComputeError, NotFound, Unavailable
from gifty_compute.logging import JsonLines
from gifty_compute.perform import Performer, Tools, Verdict, Wanted
from gifty_compute.poll.loop import PollLoop
from gifty_compute.poll.refusals import TokenRefused
from gifty_compute.wire.task import Claimed, Extension, Held, Holder, Outcome, Task, Want
from tests.unit.conftest import HandClock

Step = list[Task] | GiftyComputeError


class NotedStop(threading.Event):
    """Waits no time, and notes how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "a wait without limit"
        self.waits.append(timeout)
        return self.is_set()


class Script:
    """A source whose claims end as written; after the last line it tells the worker to stop."""

    def __init__(self, stop: threading.Event, *steps: Step) -> None:
        self._stop, self._steps = stop, list(steps)
        self.completed: list[UUID] = []
        self.failed: list[UUID] = []
        self.released: list[UUID] = []

    def claim(self, holder: Holder, want: Want) -> Claimed:
        step = self._steps.pop(0)
        if not self._steps:
            self._stop.set()
        if isinstance(step, GiftyComputeError):
            raise step
        return Claimed(tasks=tuple(step), lease_seconds=90)

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        return Extension(lost=(), cancelled=())

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        for one in outcomes:
            (self.completed if one.status == "completed" else self.failed).append(one.id)
        return [None] * len(outcomes)

    def release(self, holder: Holder, held: list[Held]) -> list[UUID]:
        self.released += [one.id for one in held]
        return [one.id for one in held]


def task() -> Task:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Task(
        id=uuid4(),
        task_type="embedding",
        priority="low",
        status="processing",
        payload={"texts": ["удочка"]},
        created_at=now,
        updated_at=now,
        attempt=1,
        failures=0,
        max_attempts=5,
    )


Work = Callable[[Task], dict[str, Any]]


def at_once(work: Work) -> Performer:
    """Does each task before it answers."""

    def performer(one: Task, _: Wanted) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        future.set_result(work(one))
        return future

    return performer


def done(_: Task) -> dict[str, Any]:
    return {"embeddings": []}


def broken(_: Task) -> dict[str, Any]:
    raise EngineError("out of memory")


@pytest.fixture
def stop() -> NotedStop:
    return NotedStop()


@pytest.fixture
def events() -> Any:
    """What the loop's log lines say."""
    captured: list[dict[str, Any]] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            captured.append(json.loads(JsonLines().format(record)))

    log, note = logging.getLogger("gifty_compute.poll"), Note()
    log.addHandler(note)
    log.setLevel(logging.INFO)
    yield captured
    log.removeHandler(note)
    log.setLevel(logging.NOTSET)


@pytest.fixture
def loop(stop: NotedStop) -> Callable[..., PollLoop]:
    def build(*steps: Step, performer: Work = done, **more: Any) -> PollLoop:
        return PollLoop(
            source=more.pop("source", None) or Script(stop, *steps),
            holder=Holder(worker_id="kaggle-1"),
            want=Want(models=("multilingual-e5-small",), limit=16),
            performer=more.pop("begin", None) or at_once(performer),
            tools=Tools(stop=stop, rng=Random(1), clock=more.pop("clock", SystemClock())),
            **more,
        )

    return build


def test_idle_claims_come_half_to_all_of_a_delay_that_grows_to_two_seconds(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    loop(*[[]] * 12).run()

    ceilings = [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 7]
    assert all(c / 2 <= wait <= c for c, wait in zip(ceilings, stop.waits, strict=True))


def test_work_is_followed_by_a_claim_without_delay_and_idleness_starts_anew(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    total = loop([], [], [], [task()], [], [], []).run()

    assert total == Verdict(done=1)
    assert stop.waits[2] > 0.1 >= stop.waits[3]


def test_what_the_server_asks_to_wait_is_waited_with_jitter_on_top(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    loop(Unavailable("busy", retry_after=20), []).run()

    assert 20.0 < stop.waits[0] <= 20.5


def test_an_unreachable_server_is_asked_ever_more_rarely_but_at_least_every_thirty_seconds(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    loop(*[Unavailable("gone", retry_after=0)] * 200, []).run()

    assert stop.waits[0] <= 0.5
    assert max(stop.waits[:3]) <= 2.0
    assert 25.0 < max(stop.waits) <= 30.0


def test_after_an_outage_the_next_trouble_starts_with_short_waits_again(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    loop(*[Unavailable("gone", retry_after=0)] * 20, [task()], Unavailable("gone", retry_after=0), []).run()

    assert stop.waits[20] <= 0.5


@pytest.mark.parametrize("error", [TokenRefused("401"), NotFound("404")])
def test_a_first_claim_that_is_refused_ends_the_loop(
    error: GiftyComputeError, loop: Callable[..., PollLoop]
) -> None:
    with pytest.raises(type(error)):
        loop(error, []).run()


@pytest.mark.parametrize("error", [TokenRefused("401"), NotFound("404")])
def test_the_same_refusal_later_is_waited_out(
    error: GiftyComputeError, loop: Callable[..., PollLoop]
) -> None:
    total = loop([], error, error, [task()], []).run()

    assert total.done == 1


def test_an_outage_before_the_first_answer_does_not_end_the_loop(loop: Callable[..., PollLoop]) -> None:
    total = loop(Unavailable("not up yet"), [task()], []).run()

    assert total.done == 1


def test_a_token_refused_after_an_outage_at_the_start_still_ends_the_loop(
    loop: Callable[..., PollLoop],
) -> None:
    with pytest.raises(TokenRefused):
        loop(Unavailable("not up yet"), TokenRefused("401"), []).run()


def test_a_machine_on_which_every_task_fails_slows_down(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    total = loop(*[[task()] for _ in range(9)], [], performer=broken).run()

    assert total.failed == 9
    assert stop.waits[8] >= 15.0


def test_a_drain_finishes_the_task_in_hand_and_releases_the_rest(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    tasks = [task() for _ in range(5)]

    def told_to_stop_in_the_second(one: Task) -> dict[str, Any]:
        if one.id == tasks[1].id:
            stop.set()
        return done(one)

    draining = loop(tasks, [], performer=told_to_stop_in_the_second)
    total = draining.run()

    assert total == Verdict(done=2, released=3)
    assert draining.source.completed == [one.id for one in tasks[:2]]
    assert draining.source.released == [one.id for one in tasks[2:]]


def test_a_stop_before_the_first_claim_claims_nothing(stop: NotedStop, loop: Callable[..., PollLoop]) -> None:
    stop.set()

    assert loop().run() == Verdict()


def test_ready_is_said_once_and_first(events: list[dict[str, Any]], loop: Callable[..., PollLoop]) -> None:
    loop([task(), task()], [], [task()], []).run()

    assert [event["event"] == "ready" for event in events] == [True, *[False] * (len(events) - 1)]


def test_a_claim_is_one_line_of_counts_and_an_empty_one_is_none(
    events: list[dict[str, Any]], loop: Callable[..., PollLoop]
) -> None:
    loop([], [task(), task()], [], [], []).run()

    assert [event["event"] for event in events] == ["ready", "worked", "drained"]
    assert events[1] == {
        "event": "worked",
        "level": "info",
        "logger": "gifty_compute.poll.loop",
        "timestamp": ANY,
        "done": 2,
        "failed": 0,
        "lost": 0,
        "released": 0,
        "seconds": pytest.approx(0, abs=5),
        "in_hand": 0,
        "texts_per_second": ANY,
    }


def test_no_log_line_quotes_a_payload(
    events: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, loop: Callable[..., PollLoop]
) -> None:
    caplog.set_level(logging.DEBUG)

    def quoting(one: Task) -> dict[str, Any]:
        raise ValueError(f"cannot embed {one.payload}")

    loop([task()], [], performer=quoting).run()

    assert "удочка" not in str(events) + caplog.text


# -- a session that ends -------------------------------------------------------------------------------------


class Endless(Script):
    """Always has as many tasks as are asked for; each claim takes ten seconds on the clock."""

    def __init__(self, stop: threading.Event, clock: HandClock) -> None:
        super().__init__(stop)
        self._clock, self.claims = clock, 0
        self.wants: list[Want] = []

    def claim(self, holder: Holder, want: Want) -> Claimed:
        self._clock.advance(10)
        self.wants.append(want)
        return Claimed(tasks=tuple(task() for _ in range(want.limit)), lease_seconds=90)


def test_a_declared_session_ends_by_itself_with_nothing_in_hand(
    stop: NotedStop, loop: Callable[..., PollLoop], clock: HandClock
) -> None:
    source = Endless(stop, clock)
    session = Deadline.after(60, clock)

    total = loop(source=source, session=session, clock=clock).run()

    # Ten of its seconds are kept for the drain.
    assert (len(source.wants), session.remaining) == (5, 10)
    assert total == Verdict(done=sum(want.limit for want in source.wants))


def test_what_is_not_done_at_the_end_of_the_session_goes_back_begun_or_not(
    stop: NotedStop, loop: Callable[..., PollLoop], clock: HandClock
) -> None:
    source = Endless(stop, clock)
    never: list[Future[dict[str, Any]]] = []

    def begin(_: Task, __: Wanted) -> Future[dict[str, Any]]:
        never.append(Future())
        # The first has begun and can no longer be taken back.
        assert len(never) > 1 or never[0].set_running_or_notify_cancel()
        clock.advance(14)
        return never[-1]

    total = loop(source=source, session=Deadline.after(60, clock), clock=clock, begin=begin).run()

    assert (total, len(source.released)) == (Verdict(released=4), 4)


def test_an_idle_worker_asks_the_server_to_wait_but_not_beyond_its_session(
    stop: NotedStop, loop: Callable[..., PollLoop], clock: HandClock
) -> None:
    class Idle(Endless):
        def claim(self, holder: Holder, want: Want) -> Claimed:
            self.wants.append(want)
            self._clock.advance(want.wait_seconds)
            return Claimed(tasks=(), lease_seconds=90)

    source = Idle(stop, clock)

    loop(source=source, session=Deadline.after(22, clock), clock=clock).run()

    assert [want.wait_seconds for want in source.wants] == [5, 5, 5, pytest.approx(2.6)]
    assert stop.waits == []


def test_an_interrupt_is_let_through_and_what_is_in_hand_goes_back(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    source = Script(stop, [task()], [])

    def interrupted(*_: object) -> Future[dict[str, Any]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop(source=source, begin=interrupted).run()

    assert (len(source.released), source.completed) == (1, [])


def test_who_is_told_to_drain_claims_nothing_more_until_he_is_told_otherwise(
    stop: NotedStop, loop: Callable[..., PollLoop]
) -> None:
    told = loop([], [])
    told.line.hand._told_to_drain = True
    asked = stop.wait

    def wait_and_be_told(timeout: float | None = None) -> bool:
        told.line.hand._told_to_drain = len(stop.waits) < 3
        return asked(timeout)

    stop.wait = wait_and_be_told  # type: ignore[method-assign]
    told.run()

    assert len(stop.waits) == 6
