"""What has ended is removed when its time is over, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import text

from gifty_compute.clock import SystemClock
from gifty_compute.logic.file import RetentionSection
from gifty_compute.maintain.retention import Retention
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.sql import QUERIES
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import Holder, SubmitRequest, Task, Want
from tests.conftest import EVERY_CLIENT
from tests.unit.conftest import HandClock

HOLDER = Holder(worker_id="w", credential="c")
VECTORS = (np.arange(384, dtype=np.float32) + 1).reshape(1, 384)
ALL = RetentionSection(completed_days=10, failed_days=20, cancelled_days=5)


def run(database: Database, days: RetentionSection = ALL, step: Retention | None = None) -> Any:
    step = step or Retention(database, lambda: days, SystemClock())
    with database.connection() as connection:
        return step.run(connection)


def execute(database: Database, statement: str, **parameters: Any) -> list[Any]:
    with database.connection() as connection:
        result = connection.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def ids(database: Database, table: str = "compute_tasks") -> set[UUID]:
    return {row[0] for row in execute(database, f"SELECT id FROM {table}")}


@pytest.fixture
def ended(store: TaskStore, leases: LeaseStore, database: Database) -> Callable[..., Task]:
    """A task that ended in this way so many days ago."""

    def end(status: str, days: float, *, callback: bool = False, batch: UUID | None = None) -> Task:
        url = "https://shop.example/hook" if callback else None
        request = SubmitRequest(
            task_type="embedding", payload={"texts": ["чай"]}, max_attempts=1, callback_url=url
        )
        task, _ = store.submit(request, Origin(client="backend"))
        if status == "cancelled":
            store.cancel(EVERY_CLIENT, task.id)
        elif status != "pending":
            [claimed] = leases.claim(HOLDER, Want(ids=(task.id,))).tasks
            if status == "completed":
                leases.complete(HOLDER, claimed, {"embeddings": VECTORS})
            elif status == "failed":
                leases.fail(HOLDER, claimed, "no")
        execute(
            database,
            "UPDATE compute_tasks"
            " SET created_at = created_at - make_interval(days => 100), batch_id = :batch,"
            " completed_at = completed_at - make_interval(secs => :seconds) WHERE id = :id",
            id=task.id,
            batch=batch,
            seconds=days * 86_400,
        )
        return task

    return end


def add_batch(database: Database, *, finished: bool) -> UUID:
    batch = uuid4()
    execute(
        database,
        "INSERT INTO compute_batches (id, client, total, finished_at)"
        " VALUES (:id, 'backend', 1, CASE WHEN :finished THEN now() END)",
        id=batch,
        finished=finished,
    )
    return batch


def test_by_default_nothing_is_ever_removed(database: Database, ended: Callable[..., Task]) -> None:
    tasks = {ended(status, 30_000).id for status in ("completed", "failed", "cancelled")}
    add_batch(database, finished=True)

    done = run(database, RetentionSection())

    assert ids(database) == tasks
    assert len(ids(database, "compute_batches")) == 1
    assert done["tasks_pruned"] == done["batches_pruned"] == 0


def test_each_end_has_its_own_age(database: Database, ended: Callable[..., Task]) -> None:
    kept = [ended("completed", 9), ended("failed", 19), ended("cancelled", 4), ended("pending", 0)]
    for status, days in (("completed", 11), ("failed", 21), ("cancelled", 6)):
        ended(status, days)

    done = run(database)

    assert ids(database) == {task.id for task in kept}
    assert done["tasks_pruned"] == 3
    assert execute(database, "SELECT count(*) FROM compute_task_vectors") == [(1,)]


def test_one_status_may_be_kept_for_ever(database: Database, ended: Callable[..., Task]) -> None:
    failed = ended("failed", 1000)
    ended("completed", 1000)

    run(database, RetentionSection(completed_days=1))

    assert ids(database) == {failed.id}


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        ("due_at = now()", True),
        ("due_at = NULL, dead_at = now()", True),
        ("due_at = NULL, delivered_at = now()", False),
    ],
    ids=["due", "dead", "delivered"],
)
def test_a_task_stays_as_long_as_its_callback_is_undelivered(
    database: Database, ended: Callable[..., Task], state: str, stays: bool
) -> None:
    ended("completed", 11, callback=True)
    execute(database, f"UPDATE compute_callbacks SET {state}")

    run(database)

    assert len(ids(database)) == len(execute(database, "SELECT FROM compute_callbacks")) == stays


def test_tasks_of_a_batch_that_goes_on_stay(database: Database, ended: Callable[..., Task]) -> None:
    running, finished = add_batch(database, finished=False), add_batch(database, finished=True)
    kept = ended("completed", 11, batch=running)
    ended("completed", 11, batch=finished)

    run(database)

    assert ids(database) == {kept.id}


def test_a_batch_goes_with_its_last_task(database: Database, ended: Callable[..., Task]) -> None:
    gone, half = add_batch(database, finished=True), add_batch(database, finished=True)
    ended("completed", 11, batch=gone)
    ended("completed", 11, batch=half)
    ended("completed", 9, batch=half)

    done = run(database)

    assert ids(database, "compute_batches") == {half}
    assert done["batches_pruned"] == 1


def test_a_batch_whose_end_is_still_to_be_told_stays(database: Database) -> None:
    batch = add_batch(database, finished=True)
    execute(
        database,
        "INSERT INTO compute_callbacks (id, batch_id, type, url) VALUES ('x', :id, 'batch.finished', 'http://a')",
        id=batch,
    )

    run(database)

    assert ids(database, "compute_batches") == {batch}


def test_claims_are_forgotten_after_a_day(database: Database) -> None:
    execute(
        database,
        "INSERT INTO compute_claims (claim_id, claimed_at)"
        " SELECT gen_random_uuid(), now() - make_interval(hours => h)"
        " FROM unnest(ARRAY[1, 23, 25, 100]) AS h",
    )

    done = run(database, RetentionSection())

    assert done["claims_pruned"] == 2
    assert execute(database, "SELECT count(*) FROM compute_claims") == [(2,)]


def many(database: Database, count: int) -> None:
    execute(
        database,
        "INSERT INTO compute_tasks (task_type, payload, status, completed_at)"
        " SELECT 'embedding', '{}', 'completed', now() - interval '11 days' FROM generate_series(1, :count)",
        count=count,
    )


def test_many_are_removed_in_chunks_in_one_pass(database: Database) -> None:
    many(database, 950)

    assert run(database)["tasks_pruned"] == 950


def test_a_pass_ends_after_a_second_or_so_and_the_next_goes_on(database: Database) -> None:
    many(database, 350)

    class Racing(HandClock):
        """A clock by which each look costs 0.4 seconds."""

        def monotonic(self) -> float:
            self.advance(0.4)
            return super().monotonic()

    step = Retention(database, lambda: ALL, Racing())
    first, second = run(database, step=step), run(database, step=step)

    assert 0 < first["tasks_pruned"] < 350
    assert second["tasks_pruned"] > 0


def test_when_nothing_is_left_the_next_look_is_in_ten_minutes(database: Database) -> None:
    clock = HandClock()
    step = Retention(database, lambda: ALL, clock)
    run(database, step=step)
    many(database, 5)

    soon = run(database, step=step)
    clock.advance(601)
    later = run(database, step=step)

    assert (soon["tasks_pruned"], later["tasks_pruned"]) == (0, 5)


def test_looking_in_vain_reads_a_few_pages_however_many_tasks_there_are(database: Database) -> None:
    """Of 20,000 tasks the oldest were removed and their places were taken by new ones."""
    many(database, 2_000)
    execute(
        database,
        "INSERT INTO compute_tasks (task_type, payload, status, completed_at)"
        " SELECT 'embedding', '{}', 'completed', now() FROM generate_series(1, 20000)",
    )
    run(database)
    execute(database, "ANALYZE compute_tasks")

    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + QUERIES["prune_tasks"].text
    [(plan,)] = execute(database, statement, status="completed", seconds=864_000, limit=100)

    read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    assert read < 100
