"""The queue walked at random on real PostgreSQL beside the pure state machine; planted bugs must be found."""

from __future__ import annotations

import os
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, text

from gifty_compute.errors import GiftyComputeError
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.source import SqlSource
from gifty_compute.queue.sql import QUERIES
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.wire.task import Holder
from tests.chaos.ledger import Handed, Ledger

SOAK = float(os.environ.get("SOAK", "0"))
EXAMPLES = max(100, round(20_000 * SOAK))
# It ends with the first walk that finds the bug; two of them are not found in each hundred.
MOST_UNTIL_FOUND = 1000
# Two that share a credential, so that attempts alone keep them apart, and one with a token of its own.
HOLDERS = [
    Holder(worker_id="alice", session="1", credential="shared"),
    Holder(worker_id="bob", session="1", credential="shared"),
    Holder(worker_id="carol", session="1", credential="carol", strict=True),
]


class Queue(RuleBasedStateMachine):
    """Every verb, by three holders, in any order; late, doubled and beside rows that others hold locked."""

    database: Database
    logic: Logic

    def __init__(self) -> None:
        super().__init__()
        tasks = TaskStore(self.database, lambda: self.logic)
        self.source = SqlSource(LeaseStore(self.database, lambda: self.logic, Random(1)), tasks)
        self.ledger = Ledger(tasks, self.database)
        self.ledger.clear()

    # Few tasks: what goes wrong goes wrong where several had their hands on one.
    @precondition(lambda self: len(self.ledger.states) < 4)
    @rule(max_attempts=st.integers(1, 3))
    def submit(self, max_attempts: int) -> None:
        self.ledger.submit(max_attempts)

    @precondition(lambda self: self.ledger.states)
    @rule(holder=st.sampled_from(HOLDERS), limit=st.integers(1, 3))
    def claim(self, holder: Holder, limit: int) -> None:
        self.ledger.claim(self.source, holder, limit)

    @precondition(lambda self: self.ledger.states)
    @rule(data=st.data(), holder=st.sampled_from(HOLDERS))
    def claim_beside_a_row_that_somebody_has_locked(self, data: st.DataObject, holder: Holder) -> None:
        locked = self._task(data)
        with self.database.engine.connect() as connection:
            own = connection.execution_options(isolation_level="READ COMMITTED")
            own.execute(text("SELECT FROM compute_tasks WHERE id = :id FOR UPDATE"), {"id": str(locked)})
            try:
                self.ledger.claim(self.source, holder, 2, locked)
            finally:
                own.rollback()

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data(), holder=st.sampled_from(HOLDERS))
    def another_takes_over(self, data: st.DataObject, holder: Holder) -> None:
        self.ledger.expire(self._handed(data).task.id)
        self.ledger.claim(self.source, holder, 1)

    @precondition(lambda self: self.ledger.late())
    @rule(data=st.data(), how=st.sampled_from(["extend", "complete", "fail", "release"]))
    def report_late(self, data: st.DataObject, how: str) -> None:
        late = self.ledger.late()
        one = late[data.draw(st.integers(0, len(late) - 1))]
        if how == "fail":
            self.ledger.fail(self.source, one, retryable=True)
        else:
            getattr(self.ledger, how)(self.source, one)

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        self.ledger.extend(self.source, self._handed(data))

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        self.ledger.complete(self.source, self._handed(data))

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data())
    def complete_what_was_never_handed_out(self, data: st.DataObject) -> None:
        self.ledger.complete_what_was_never_handed_out(self.source, self._handed(data))

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data(), retryable=st.booleans())
    def fail(self, data: st.DataObject, retryable: bool) -> None:
        self.ledger.fail(self.source, self._handed(data), retryable=retryable)

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.ledger.release(self.source, self._handed(data))

    @precondition(lambda self: self.ledger.handed)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        self.ledger.expire(self._handed(data).task.id)

    @rule()
    def a_fleet_dies(self) -> None:
        for task_id in self.ledger.states:
            self.ledger.expire(task_id)

    @rule()
    def promote(self) -> None:
        self.ledger.promote()

    @precondition(lambda self: self.ledger.states)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.ledger.cancel(self._task(data))

    @precondition(lambda self: self.ledger.states)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self.ledger.retry(self._task(data))

    @invariant()
    def rows_are_what_the_state_machine_says(self) -> None:
        self.ledger.check()

    # Places, not the things themselves: ids are made anew whenever an example runs again.
    def _handed(self, data: st.DataObject) -> Handed:
        return self.ledger.handed[data.draw(st.integers(0, len(self.ledger.handed) - 1))]

    def _task(self, data: st.DataObject) -> UUID:
        return list(self.ledger.states)[data.draw(st.integers(0, len(self.ledger.states) - 1))]


@pytest.fixture
def machine(database: Database, logic: Logic) -> type[Queue]:
    @event.listens_for(database.engine, "connect")
    def wait_for_no_lock(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '300ms'")

    return type("Queue", (Queue,), {"database": database, "logic": logic})


def walk(machine: type[Queue], examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            derandomize=not SOAK,
            report_multiple_bugs=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(0 if SOAK else 300)
def test_the_queue_does_what_the_state_machine_says(machine: type[Queue]) -> None:
    walk(machine, EXAMPLES, Phase.generate, Phase.shrink)


BUGS = {
    "no fence": ("extend", "AND t.attempt = held.attempt", ""),
    "no fence in release": ("release", "AND t.attempt = held.attempt", ""),
    "no limit": ("claim", "LIMIT :limit", "LIMIT 100"),
    "no skip-locked": ("claim", "FOR UPDATE SKIP LOCKED", "FOR UPDATE"),
    "late failure accepted": ("fail", "t.attempt = :attempt AND", "t.attempt >= :attempt AND"),
    "fence number reused": ("claim", "attempt = t.attempt + 1", "attempt = GREATEST(t.attempt, 1)"),
    "cancelled may be completed": (
        "complete",
        "t.status IN ('pending', 'processing')",
        "t.status IN ('pending', 'processing', 'cancelled')",
    ),
    "an expiry in company counts": ("sweep", "CASE WHEN expired.doubtful THEN 0 ELSE 1 END", "1"),
    "suspects are handed out in company": ("claim", "LIMIT LEAST(1, :limit)", "LIMIT :limit"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
def test_the_walk_finds_a_planted_bug(
    machine: type[Queue], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    name, right, wrong = BUGS[bug]
    assert right in QUERIES[name].text
    monkeypatch.setitem(QUERIES, name, text(QUERIES[name].text.replace(right, wrong)))

    with pytest.raises((AssertionError, GiftyComputeError, BaseExceptionGroup)):
        walk(machine, MOST_UNTIL_FOUND, Phase.generate)
