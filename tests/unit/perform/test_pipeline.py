"""The road of every worker, against a source that answers as written and notes each call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from gifty_compute.backoff import Backoff
from gifty_compute.errors import (
    Conflict,
    EngineError,
    GiftyComputeError,
    InvalidResult,
    LeaseLost,
    NotFound,
    StoreUnavailable,
    TaskFinished,
    Unavailable,
)
from gifty_compute.perform import Pipeline, Tools, Verdict, Wanted
from gifty_compute.perform.spool import Spool
from gifty_compute.wire.task import Claimed, Extension, Held, Holder, Outcome, Task, Want

HOLDER = Holder(worker_id="kaggle-1", session="s", credential="c")
WANT = Want(limit=10)
LIMIT = 5.0


class Script:
    """A source of these tasks; each verb raises what is written for it, in order.

    `complete` and `fail` are the outcomes that a report holds, noted as if each had come alone."""

    def __init__(
        self, *tasks: Task, lease_seconds: float = 90, **raises: list[GiftyComputeError | None]
    ) -> None:
        self._claimed = Claimed(tasks=tasks, lease_seconds=lease_seconds)
        self._raises = raises
        self.calls: list[tuple[str, Any]] = []
        self.lost: tuple[UUID, ...] = ()
        self.cancelled: tuple[UUID, ...] = ()
        self.beats = threading.Semaphore(0)
        self.was_given_back = threading.Event()

    def _call(self, verb: str, *said: Any) -> None:
        self.calls.append((verb, *said))
        error = self._raises[verb].pop(0) if self._raises.get(verb) else None
        if error is not None:
            raise error

    def claim(self, holder: Holder, want: Want) -> Claimed:
        assert (holder, want) == (HOLDER, WANT)
        return self._claimed

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        assert exhaustive
        try:
            self._call("extend", [(one.id, one.attempt) for one in held])
        finally:
            self.beats.release()
        return Extension(lost=self.lost, cancelled=self.cancelled)

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        return [self._answer(one) for one in outcomes]

    def _answer(self, one: Outcome) -> GiftyComputeError | None:
        try:
            if one.status == "completed":
                self._call("complete", one.id, one.result)
            else:
                self._call("fail", one.id, one.error, one.retryable)
        except GiftyComputeError as error:
            return error
        return None

    def release(self, holder: Holder, held: list[Held]) -> list[UUID]:
        self._call("release", [(one.id, one.attempt) for one in held])
        self.was_given_back.set()
        return [one.id for one in held if one.id not in self.lost]

    def reported(self) -> list[tuple[str, Any]]:
        """The calls but for the heartbeat's."""
        return [call for call in self.calls if call[0] != "extend"]

    def wait_for_beat_with(self, *held: tuple[UUID, int]) -> None:
        for _ in range(100):
            if ("extend", list(held)) in self.calls:
                return
            self.wait_for_beats(1)
        raise AssertionError(f"100 heartbeats, and none with {held}")

    def wait_for_beats(self, count: int) -> None:
        for _ in range(count):
            assert self.beats.acquire(timeout=LIMIT), "no heartbeat came"


def task(attempt: int = 1, text: str = "удочка") -> Task:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Task(
        id=uuid4(),
        task_type="embedding",
        priority="low",
        status="processing",
        payload={"texts": [text]},
        created_at=now,
        updated_at=now,
        attempt=attempt,
        failures=0,
        max_attempts=5,
    )


def tools(*, tries: int = 12, stop: threading.Event | None = None) -> Tools:
    patience = Backoff(base=0.001, cap=0.001)
    return Tools(stop=stop or threading.Event(), rng=Random(1), patience=patience, tries=tries)


def perform(
    source: Script,
    holder: Holder,
    want: Want,
    performer: Callable[[Task], dict[str, Any]],
    tools: Tools,
) -> Verdict:
    """One claim from its beginning to its end; the performer does one task after the other."""

    def work(task: Task, wanted: Wanted) -> dict[str, Any]:
        if not wanted():  # as inference does it, also for what was lost before its future was known
            raise CancelledError
        return performer(task)

    with ThreadPoolExecutor(1) as one_by_one:
        line = Pipeline(source, holder, partial(one_by_one.submit, work), tools)
        with line:
            line.claim(want)
            return line.finish()


def done(one: Task) -> dict[str, Any]:
    return {"of": one.id}


def raising(error: BaseException) -> Callable[[Task], dict[str, Any]]:
    def performer(_: Task) -> dict[str, Any]:
        raise error

    return performer


# -- how one task ends ---------------------------------------------------------------------------------------


def test_without_tasks_nothing_happens() -> None:
    source = Script()

    assert perform(source, HOLDER, WANT, done, tools()) == Verdict()
    assert source.calls == []


def test_each_task_is_done_in_order_and_its_result_reported() -> None:
    tasks = [task(), task(attempt=3), task()]
    source = Script(*tasks)

    verdict = perform(source, HOLDER, WANT, done, tools())

    assert verdict == Verdict(done=3)
    assert source.calls == [("complete", one.id, {"of": one.id}) for one in tasks]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("out of memory"), "EngineError: out of memory"),
        (ValueError("bad shape"), "ValueError: bad shape"),
        (KeyError("texts"), "KeyError: 'texts'"),
        (MemoryError(), "MemoryError: "),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (ExceptionGroup("two", [ValueError("a"), ValueError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
    ],
)
def test_whatever_a_performer_raises_is_the_tasks_failure_with_its_message(
    error: Exception, message: str
) -> None:
    one = task()
    source = Script(one)

    verdict = perform(source, HOLDER, WANT, raising(error), tools())

    assert verdict == Verdict(failed=1)
    assert source.calls == [("fail", one.id, message, True)]


def test_a_failure_does_not_keep_the_next_task_from_being_done() -> None:
    first, second = task(), task()
    source = Script(first, second)

    def performer(one: Task) -> dict[str, Any]:
        return done(one) if one.id == second.id else raising(EngineError())(one)

    assert perform(source, HOLDER, WANT, performer, tools()) == Verdict(done=1, failed=1)


def test_a_very_long_message_is_cut() -> None:
    source = Script(task())

    perform(source, HOLDER, WANT, raising(ValueError("x" * 10**6)), tools())

    assert len(source.calls[0][2]) == 2000


def test_a_message_that_no_store_takes_is_made_fit() -> None:
    source = Script(task())

    perform(source, HOLDER, WANT, raising(ValueError("a\x00b\ud800c")), tools())

    assert source.calls[0][2] == "ValueError: a?b?c"


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), SystemExit(1)])
def test_an_order_to_exit_is_no_failure_of_the_task(stopped: BaseException) -> None:
    source = Script(task())

    assert perform(source, HOLDER, WANT, raising(stopped), tools()) == Verdict(lost=1)
    assert source.calls == []


def test_a_result_that_breaks_its_schema_is_the_tasks_failure() -> None:
    one = task()
    source = Script(one, complete=[InvalidResult("2 vectors for 1 texts")])

    verdict = perform(source, HOLDER, WANT, done, tools())

    assert verdict == Verdict(failed=1)
    assert source.calls[1] == ("fail", one.id, "InvalidResult: 2 vectors for 1 texts", True)


@pytest.mark.parametrize("error", [Conflict(), LeaseLost(), TaskFinished()])
def test_a_result_that_comes_too_late_is_lost_and_nobodys_failure(error: Conflict) -> None:
    source = Script(task(), complete=[error])

    verdict = perform(source, HOLDER, WANT, done, tools())

    assert verdict == Verdict(lost=1)
    assert [call[0] for call in source.calls] == ["complete"]


@pytest.mark.parametrize("error", [Unavailable(retry_after=0), StoreUnavailable(retry_after=0)])
def test_a_result_is_reported_again_until_it_is_taken(error: Unavailable) -> None:
    one = task()
    source = Script(one, complete=[error, error, error])

    verdict = perform(source, HOLDER, WANT, done, tools())

    assert verdict == Verdict(done=1)
    assert source.calls == [("complete", one.id, {"of": one.id})] * 4


def test_when_patience_ends_the_task_is_left_to_its_lease() -> None:
    source = Script(task(), complete=[Unavailable(retry_after=0)] * 3)

    verdict = perform(source, HOLDER, WANT, done, tools(tries=3))

    assert verdict == Verdict(lost=1)
    assert [call[0] for call in source.calls] == ["complete"] * 3


def test_a_failure_is_reported_again_until_it_is_taken() -> None:
    source = Script(task(), fail=[Unavailable(retry_after=0), Unavailable(retry_after=0)])

    assert perform(source, HOLDER, WANT, raising(EngineError()), tools()) == Verdict(failed=1)
    assert len(source.calls) == 3


@pytest.mark.parametrize("error", [LeaseLost(), NotFound()])
def test_a_failure_that_nobody_takes_is_lost(error: GiftyComputeError) -> None:
    source = Script(task(), fail=[error])

    assert perform(source, HOLDER, WANT, raising(EngineError()), tools()) == Verdict(lost=1)


def test_a_result_owed_at_a_stop_is_still_delivered() -> None:
    stop = threading.Event()
    source = Script(task(), complete=[Unavailable(retry_after=0), Unavailable(retry_after=0)])

    def performer(one: Task) -> dict[str, Any]:
        stop.set()
        return done(one)

    assert perform(source, HOLDER, WANT, performer, tools(stop=stop)) == Verdict(done=1)


def test_a_claim_that_fails_is_the_callers_to_handle() -> None:
    class Closed(Script):
        def claim(self, holder: Holder, want: Want) -> Claimed:
            raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        perform(Closed(), HOLDER, WANT, done, tools())


# -- stop ----------------------------------------------------------------------------------------------------


def test_a_stop_finishes_the_task_in_hand_and_releases_the_rest() -> None:
    stop, tasks = threading.Event(), [task(), task(attempt=2), task(attempt=7)]
    source = Script(*tasks)

    def performer(one: Task) -> dict[str, Any]:
        stop.set()
        assert source.was_given_back.wait(LIMIT)
        return done(one)

    verdict = perform(source, HOLDER, WANT, performer, tools(stop=stop))

    assert verdict == Verdict(done=1, released=2)
    assert source.calls == [
        ("release", [(tasks[1].id, 2), (tasks[2].id, 7)]),
        ("complete", tasks[0].id, done(tasks[0])),
    ]


def test_a_stop_before_the_first_task_releases_all() -> None:
    stop = threading.Event()
    stop.set()

    assert perform(Script(task(), task()), HOLDER, WANT, done, tools(stop=stop)) == Verdict(released=2)


def test_what_could_not_be_released_counts_as_lost() -> None:
    stop = threading.Event()
    stop.set()
    tasks = [task(), task()]
    source = Script(*tasks)
    source.lost = (tasks[0].id,)

    assert perform(source, HOLDER, WANT, done, tools(stop=stop)) == Verdict(released=1, lost=1)


def test_a_release_that_fails_leaves_the_tasks_to_their_leases() -> None:
    stop = threading.Event()
    stop.set()
    source = Script(task(), task(), release=[Unavailable(retry_after=0)])

    assert perform(source, HOLDER, WANT, done, tools(stop=stop)) == Verdict(lost=2)


# -- heartbeat -----------------------------------------------------------------------------------------------


def test_the_heartbeat_renews_all_that_is_held_and_no_more_what_is_done() -> None:
    first, second = task(attempt=4), task(attempt=2)
    source = Script(first, second, lease_seconds=0.03)

    def performer(one: Task) -> dict[str, Any]:
        both = [(first.id, 4), (second.id, 2)]
        source.wait_for_beat_with(*(both if one.id == first.id else both[1:]))
        return done(one)

    assert perform(source, HOLDER, WANT, performer, tools()) == Verdict(done=2)


@pytest.mark.parametrize("gone_as", ["lost", "cancelled"])
def test_a_task_that_the_heartbeat_loses_is_not_begun(gone_as: str) -> None:
    first, second, third = task(), task(), task()
    source = Script(first, second, third, lease_seconds=0.03)
    setattr(source, gone_as, (second.id,))

    def performer(one: Task) -> dict[str, Any]:
        # By the second beat the answer to the first has been noted.
        source.wait_for_beats(2 if one.id == first.id else 0)
        return done(one)

    verdict = perform(source, HOLDER, WANT, performer, tools())

    assert verdict == Verdict(done=2, lost=1)
    assert [call[1] for call in source.reported()] == [first.id, third.id]


def test_a_task_that_the_heartbeat_lost_is_not_released() -> None:
    stop, tasks = threading.Event(), [task(), task(), task()]
    source = Script(*tasks, lease_seconds=0.03)
    source.lost = (tasks[1].id,)

    def performer(one: Task) -> dict[str, Any]:
        source.wait_for_beats(2)
        stop.set()
        assert source.was_given_back.wait(LIMIT)
        return done(one)

    verdict = perform(source, HOLDER, WANT, performer, tools(stop=stop))

    assert source.reported()[0] == ("release", [(tasks[2].id, 1)])
    assert verdict.claimed == 3


def test_a_heartbeat_that_is_not_answered_is_followed_by_the_next() -> None:
    source = Script(task(), lease_seconds=0.03, extend=[Unavailable(retry_after=0), NotFound()])

    def performer(one: Task) -> dict[str, Any]:
        source.wait_for_beats(3)
        return done(one)

    assert perform(source, HOLDER, WANT, performer, tools()) == Verdict(done=1)


def test_the_heartbeat_ends_with_the_claim() -> None:
    perform(Script(task(), lease_seconds=0.03), HOLDER, WANT, done, tools())

    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


# -- ahead, in bulk, and what nobody wants -------------------------------------------------------------------


class Endless(Script):
    """Claims of so many new tasks each; `claimed` counts the calls."""

    def __init__(self, each: int, **raises: list[GiftyComputeError | None]) -> None:
        super().__init__(**raises)
        self.each, self.reports = each, 0

    def claim(self, holder: Holder, want: Want) -> Claimed:
        self._call("claim")
        return Claimed(tasks=tuple(task() for _ in range(self.each)), lease_seconds=90)

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        self.reports += 1
        self._call("report")
        return super().report(holder, outcomes)


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(LIMIT / 1000)
    raise AssertionError("it did not come to that")


def never_ending(_: Task, __: Wanted) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_running_or_notify_cancel()
    return future


def test_what_ends_together_is_reported_together_and_each_once() -> None:
    source, futures = Endless(250), list[Future[dict[str, Any]]]()

    def begin(_: Task, __: Wanted) -> Future[dict[str, Any]]:
        futures.append(Future())
        return futures[-1]

    with Pipeline(source, HOLDER, begin, tools()) as line:
        line.claim(WANT)
        for future in futures:
            future.set_result({})
        verdict = line.finish()

    assert verdict == Verdict(done=250)
    assert source.reports <= 10
    assert len({call[1] for call in source.calls if call[0] == "complete"}) == 250


def test_a_call_that_fails_as_a_whole_is_made_again_with_all_of_it() -> None:
    source = Endless(3, report=[Unavailable(retry_after=0), Unavailable(retry_after=0)])

    assert perform(source, HOLDER, WANT, done, tools()) == Verdict(done=3)


def test_tasks_are_claimed_while_others_are_worked_on() -> None:
    source = Endless(2)

    with Pipeline(source, HOLDER, never_ending, tools()) as line:
        line.claim(WANT)
        line.claim(WANT)

        assert line.in_hand == 4


def test_a_task_that_was_cancelled_is_neither_begun_nor_reported() -> None:
    begun, second = task(), task()
    source = Script(begun, second, lease_seconds=0.03)
    works: dict[UUID, Future[dict[str, Any]]] = {}

    def begin(one: Task, wanted: Wanted) -> Future[dict[str, Any]]:
        works[one.id] = Future()
        if one.id == begun.id:
            works[one.id].set_running_or_notify_cancel()
        return works[one.id]

    with Pipeline(source, HOLDER, begin, tools()) as line:
        line.claim(WANT)
        source.cancelled = (begun.id, second.id)
        wait_until(lambda: not line.hand.holds(begun.id) and works[second.id].cancelled())
        works[begun.id].set_result({})
        verdict = line.finish()

    assert verdict == Verdict(lost=2)
    assert works[second.id].cancelled()
    assert source.reported() == []


def test_the_result_of_a_task_that_was_lost_in_work_is_still_told() -> None:
    """The first valid result wins, and it may be this one."""
    one = task()
    source = Script(one, lease_seconds=0.03)
    future: Future[dict[str, Any]] = Future()
    future.set_running_or_notify_cancel()

    with Pipeline(source, HOLDER, lambda *_: future, tools()) as line:
        line.claim(WANT)
        source.lost = (one.id,)
        wait_until(lambda: not line.hand.holds(one.id))
        future.set_result({"of": one.id})
        line.finish()

    assert source.reported() == [("complete", one.id, {"of": one.id})]


def test_a_task_that_is_claimed_again_while_it_is_worked_on_is_told_by_its_new_attempt() -> None:
    one = task(attempt=1)
    source, begun = Script(one), list[Task]()
    future: Future[dict[str, Any]] = Future()
    attempts: list[int | None] = []
    told = source.report

    def report(holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        attempts.extend(outcome.attempt for outcome in outcomes)
        return told(holder, outcomes)

    source.report = report  # type: ignore[method-assign]

    def begin(which: Task, _: Wanted) -> Future[dict[str, Any]]:
        begun.append(which)
        return future

    with Pipeline(source, HOLDER, begin, tools()) as line:
        line.claim(WANT)
        source._claimed = Claimed(tasks=(one.model_copy(update={"attempt": 2}),), lease_seconds=90)
        line.claim(WANT)
        future.set_result({})
        verdict = line.finish()

    assert (len(begun), attempts, verdict) == (1, [2], Verdict(done=1))


def test_a_performer_without_room_is_asked_again() -> None:
    source, busy = Script(task()), [Unavailable(retry_after=0), Unavailable(retry_after=0)]

    def begin(one: Task, _: Wanted) -> Future[dict[str, Any]]:
        if busy:
            raise busy.pop()
        future: Future[dict[str, Any]] = Future()
        future.set_result(done(one))
        return future

    with Pipeline(source, HOLDER, begin, tools()) as line:
        line.claim(WANT)
        assert line.finish() == Verdict(done=1)


def test_an_interrupt_in_a_claim_gives_back_what_its_answer_may_have_brought() -> None:
    class Interrupted(Script):
        def claim(self, holder: Holder, want: Want) -> Claimed:
            raise KeyboardInterrupt

    source = Interrupted()

    with pytest.raises(KeyboardInterrupt), Pipeline(source, HOLDER, never_ending, tools()) as line:
        line.claim(WANT)

    assert source.calls == [("extend", [])] * 2


def test_whoever_leaves_in_haste_gives_back_what_he_holds_begun_or_not() -> None:
    one = task(attempt=3)
    source = Script(one)

    def leave() -> None:
        with Pipeline(source, HOLDER, never_ending, tools()) as line:
            line.claim(WANT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()

    assert source.calls == [("release", [(one.id, 3)])]


def test_what_the_spool_holds_is_told_before_anything_is_claimed(tmp_path: Path) -> None:
    spool, old = Spool(tmp_path), task()
    spool.keep(Outcome(id=old.id, attempt=1, status="completed", result={"of": 1}))
    source = Endless(1)

    with Pipeline(source, HOLDER, never_ending, tools(), spool=spool) as line:
        line.claim(WANT)

    assert [call[0] for call in source.calls] == ["report", "complete", "claim", "release"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [Unavailable(retry_after=0), None, LeaseLost()])
def test_the_spool_keeps_an_outcome_until_it_is_answered_for_good(
    error: GiftyComputeError | None, tmp_path: Path
) -> None:
    stop, asked = threading.Event(), Unavailable(retry_after=0)
    final = isinstance(error, LeaseLost) or error is None
    # Longer than the patience of a worker without a spool.
    source = Script(task(), complete=[*[asked] * 10, error] if final else [asked] * 1000)

    def work(one: Task) -> dict[str, Any]:
        if not final:
            stop.set()
        return {"of": str(one.id)}

    with ThreadPoolExecutor(1) as pool:
        line = Pipeline(
            source,
            HOLDER,
            lambda one, _: pool.submit(work, one),
            tools(tries=3, stop=stop),
            spool=Spool(tmp_path),
        )
        with line:
            line.claim(WANT)
            line.finish()

    assert len(list(tmp_path.glob("*.json"))) == (0 if final else 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_reporting_ends_the_worker_instead_of_leaving_it_waiting() -> None:
    one = task()
    source = Script(one)

    def broken(holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        raise ZeroDivisionError

    source.report = broken  # type: ignore[method-assign]

    with pytest.raises(RuntimeError, match="a thread of this worker has died"):
        perform(source, HOLDER, WANT, done, tools())

    assert source.calls == [("release", [(one.id, 1)])]


# -- what is said --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raises",
    [
        {},
        {"fail": [Unavailable(retry_after=0), LeaseLost()]},
        {"complete": [InvalidResult("bad")]},
        {"complete": [Unavailable(retry_after=0)] * 12},
    ],
)
@pytest.mark.parametrize("broken", [True, False])
def test_no_log_record_holds_a_payload(
    caplog: pytest.LogCaptureFixture, raises: dict[str, list[GiftyComputeError | None]], broken: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    source = Script(
        task(text="canary-7f3a"), extend=[Unavailable(retry_after=0)], lease_seconds=0.03, **raises
    )

    def performer(one: Task) -> dict[str, Any]:
        source.wait_for_beats(1)
        if broken:
            raise ValueError(f"cannot embed {one.payload}")
        return {"echo": one.payload}

    perform(source, HOLDER, WANT, performer, tools())

    assert all("canary-7f3a" not in str(vars(record)) for record in caplog.records)


def test_verdicts_add_up() -> None:
    total = Verdict(done=1, failed=2, lost=3, released=4) + Verdict(done=10, failed=20, lost=30, released=40)

    assert total == Verdict(done=11, failed=22, lost=33, released=44)
    assert total.claimed == 110


def test_a_verdict_is_told_in_counts_and_leaves_zeros_out_but_for_done() -> None:
    assert str(Verdict()) == "done 0"
    assert (
        str(Verdict(done=3, failed=1, lost=2, released=4))
        == "done 3, failed 1, taken elsewhere 2, released 4"
    )
