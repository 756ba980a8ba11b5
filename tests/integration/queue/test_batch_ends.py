"""A batch on its way to the end: counted, cancelled, tried again; each of it may be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from gifty_compute.clock import SystemClock
from gifty_compute.errors import Conflict, NotFound
from gifty_compute.maintain.batches import Batches
from gifty_compute.queue.batches import BatchStore
from gifty_compute.queue.chunks import CHUNK, cancel_rest, retry_rest
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.sql import QUERIES
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.wire.batch import Batch
from gifty_compute.wire.task import Held
from tests.conftest import EVERY_CLIENT
from tests.integration.queue.batches import WORKER, callbacks, claim, complete, execute, statuses, submit

Maintain = Callable[[], dict[str, int]]


# -- to the end ----------------------------------------------------------------------------------------------


def test_counts_rate_and_eta_are_of_the_tasks_as_they_are(
    batches: BatchStore, leases: LeaseStore, database: Database
) -> None:
    batch = submit(batches, 10).batch
    taken = claim(leases, limit=5)
    complete(leases, taken[:3])
    leases.fail(WORKER, taken[3], "no", retryable=False)
    execute(database, "UPDATE compute_batches SET created_at = now() - interval '1 hour'")

    now = batches.stored(batch.id)

    assert now.counts.model_dump() == {
        "pending": 5,
        "processing": 1,
        "completed": 3,
        "failed": 1,
        "cancelled": 0,
    }
    assert now.rate == round(4 / 60, 3)
    assert now.eta is not None
    assert 80 < (now.eta - SystemClock().now()).total_seconds() < 100
    assert now.finished_at is None


def test_what_ended_long_ago_does_not_count_for_the_rate(
    batches: BatchStore, leases: LeaseStore, database: Database
) -> None:
    batch = submit(batches, 2).batch
    complete(leases, claim(leases, limit=1))
    execute(
        database,
        "UPDATE compute_tasks SET completed_at = now() - interval '1 hour' WHERE completed_at IS NOT NULL",
    )

    now = batches.stored(batch.id)

    assert (now.rate, now.eta) == (0.0, None)


def test_an_unknown_batch_is_not_found(batches: BatchStore) -> None:
    for verb in (batches.get, batches.cancel, batches.retry):
        with pytest.raises(NotFound):
            verb(EVERY_CLIENT, uuid4())


def test_the_end_is_found_by_maintain_once_and_told_once(
    batches: BatchStore, store: TaskStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 2).batch
    execute(database, "UPDATE compute_batches SET callback_url = 'https://shop.example/hook'")
    complete(leases, claim(leases, limit=1))

    early = maintain()
    complete(leases, claim(leases, limit=1))
    before = batches.stored(batch.id)
    threads = [threading.Thread(target=maintain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    after = batches.stored(batch.id)
    assert early["batches_finished"] == 0
    assert before.finished_at is None
    assert after.finished_at is not None
    assert (after.counts.completed, after.rate, after.eta) == (2, None, None)
    assert callbacks(database) == [f"{batch.id}.1.batch.finished"]
    assert store.ended([batch.id]) == {batch.id}


def test_final_counts_outlive_the_rows(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 2).batch
    complete(leases, claim(leases))
    maintain()

    execute(database, "DELETE FROM compute_tasks")

    assert batches.stored(batch.id).counts.completed == 2


def test_a_completion_waits_for_nobody_who_reads_the_batch(
    batches: BatchStore, store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(batches, 1)
    tasks = claim(leases)
    with database.transaction() as connection:
        connection.execute(text("SELECT FROM compute_batches FOR UPDATE"))

        complete(leases, tasks)

    assert store.stored(tasks[0].id).status == "completed"


# -- cancel --------------------------------------------------------------------------------------------------


def test_a_cancelled_batch_ends_is_told_to_workers_and_to_no_callback(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 5).batch
    execute(database, "UPDATE compute_batches SET callback_url = 'https://shop.example/hook'")
    done, held = claim(leases, limit=1), claim(leases, limit=1)
    complete(leases, done)

    batches.cancel(EVERY_CLIENT, batch.id)

    extension = leases.extend(WORKER, [Held(id=held[0].id, attempt=1)])
    maintain()
    ended = batches.stored(batch.id)
    assert extension.cancelled == (held[0].id,)
    assert (ended.counts.completed, ended.counts.cancelled) == (1, 4)
    assert ended.finished_at is not None
    assert ended.cancel_requested_at is not None
    assert callbacks(database) == []
    [row] = execute(database, "SELECT history FROM compute_tasks WHERE id = :id", id=str(held[0].id))
    assert row["history"][-1]["end"] == "cancelled"


def test_cancelling_twice_is_once_and_a_finished_batch_stays_finished(
    batches: BatchStore, leases: LeaseStore, maintain: Maintain
) -> None:
    first = submit(batches, 1).batch
    batches.cancel(EVERY_CLIENT, first.id)
    asked = batches.stored(first.id).cancel_requested_at
    batches.cancel(EVERY_CLIENT, first.id)
    maintain()
    batches.cancel(EVERY_CLIENT, first.id)
    second = submit(batches, 1).batch
    complete(leases, claim(leases))
    maintain()

    assert batches.stored(first.id).cancel_requested_at == asked
    with pytest.raises(Conflict, match="has ended already"):
        batches.cancel(EVERY_CLIENT, second.id)


def test_a_cancel_that_died_after_its_first_chunk_is_gone_on_with(
    batches: BatchStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 2 * CHUNK + 5).batch
    database.rows("ask_cancel", clients=EVERY_CLIENT.names, id=str(batch.id))
    first = cancel_rest(database.rows, batch.id, chunks=1)
    halfway = batches.stored(batch.id)

    report = maintain()

    assert first == halfway.counts.cancelled == CHUNK
    assert halfway.finished_at is None
    assert report == {"cancelled": CHUNK + 5, "retried": 0, "batches_finished": 1}
    assert batches.stored(batch.id).counts.cancelled == 2 * CHUNK + 5


def test_a_request_cancels_a_bounded_part_and_maintain_the_rest(
    batches: BatchStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 12_000).batch

    batches.cancel(EVERY_CLIENT, batch.id)

    assert batches.stored(batch.id).counts.cancelled == 10 * CHUNK
    assert maintain()["cancelled"] == 2000
    assert set(statuses(database, batch.id)) == {"cancelled"}


def test_a_pass_that_has_taken_its_time_leaves_the_other_batches_to_the_next(
    batches: BatchStore, database: Database
) -> None:
    class Hurried(SystemClock):
        """Four tenths of a second pass between two looks."""

        seconds = 0.0

        def monotonic(self) -> float:
            self.seconds += 0.4
            return self.seconds

    for _ in range(5):
        database.rows("ask_cancel", clients=EVERY_CLIENT.names, id=str(submit(batches, 1).batch.id))
    step = Batches(database, Hurried())

    with database.connection() as connection:
        cancelled = [step.run(connection)["cancelled"] for _ in range(4)]

    assert cancelled == [2, 2, 1, 0]


def test_what_somebody_holds_a_lock_on_is_cancelled_by_the_next_chunk(
    batches: BatchStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 3).batch
    with database.transaction() as connection:
        connection.execute(text("SELECT FROM compute_tasks ORDER BY seq LIMIT 1 FOR UPDATE"))

        batches.cancel(EVERY_CLIENT, batch.id)

        meanwhile = maintain()

    assert meanwhile["batches_finished"] == 0
    assert maintain() == {"cancelled": 1, "retried": 0, "batches_finished": 1}


# -- retry ---------------------------------------------------------------------------------------------------


def failed_batch(batches: BatchStore, leases: LeaseStore, count: int = 3) -> Batch:
    """A batch of which the first task completed and all others failed."""
    batch = submit(batches, count).batch
    tasks: list[Any] = []
    while some := claim(leases):
        tasks += some
    complete(leases, tasks[:1])
    for task in tasks[1:]:
        leases.fail(WORKER, task, "no", retryable=False)
    return batch


def test_a_retry_opens_the_batch_for_what_failed_and_it_ends_a_second_time(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = failed_batch(batches, leases)
    execute(database, "UPDATE compute_batches SET callback_url = 'https://shop.example/hook'")
    maintain()

    ready = batches.retry(EVERY_CLIENT, batch.id)

    again = batches.stored(batch.id)
    complete(leases, claim(leases))
    maintain()
    ended = batches.stored(batch.id)
    assert ready == {("embedding", "multilingual-e5-small"): 2}
    assert (again.finished_at, again.generation, again.retry_requested_at) == (None, 2, None)
    assert (again.counts.pending, again.counts.completed) == (2, 1)
    assert ended.counts.completed == 3
    assert callbacks(database) == [f"{batch.id}.{n}.batch.finished" for n in (1, 2)]
    rows = execute(database, "SELECT generation, failures, error FROM compute_tasks ORDER BY seq")
    assert [tuple(row.values()) for row in rows] == [(1, 0, None), (2, 0, None), (2, 0, None)]


def test_a_cancelled_batch_can_be_taken_up_again(
    batches: BatchStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 2).batch
    batches.cancel(EVERY_CLIENT, batch.id)
    maintain()

    batches.retry(EVERY_CLIENT, batch.id)

    assert statuses(database, batch.id) == ["pending", "pending"]
    assert batches.stored(batch.id).cancel_requested_at is None


def test_where_nothing_failed_a_retry_is_a_conflict_and_opens_nothing(
    batches: BatchStore, leases: LeaseStore, maintain: Maintain
) -> None:
    batch = submit(batches, 1).batch
    complete(leases, claim(leases))
    maintain()

    with pytest.raises(Conflict, match="nothing in batch"):
        batches.retry(EVERY_CLIENT, batch.id)

    assert batches.stored(batch.id).generation == 1


def test_a_retry_that_died_after_its_first_chunk_is_gone_on_with_and_nothing_is_retried_twice(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, CHUNK + 50).batch
    execute(database, "UPDATE compute_tasks SET status = 'failed', failures = 5, completed_at = now()")
    maintain()
    database.rows("ask_retry", clients=EVERY_CLIENT.names, id=str(batch.id))
    retry_rest(database.rows, batch.id, chunks=1)
    # The first of them is so quick to fail again that the retry is still going on.
    [task] = claim(leases, limit=1)
    leases.fail(WORKER, task, "no", retryable=False)

    unfinished = batches.stored(batch.id)
    report = maintain()

    ended = batches.stored(batch.id)
    assert unfinished.retry_requested_at is not None
    assert report == {"cancelled": 0, "retried": 50, "batches_finished": 0}
    assert ended.retry_requested_at is None
    assert (ended.counts.failed, ended.counts.pending) == (1, CHUNK + 49)
    assert execute(database, "SELECT DISTINCT generation FROM compute_tasks") == [{"generation": 2}]


def test_a_batch_that_is_being_retried_is_not_ended_between_two_chunks(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = submit(batches, 3).batch
    execute(database, "UPDATE compute_tasks SET status = 'failed', completed_at = now()")
    maintain()
    database.rows("ask_retry", clients=EVERY_CLIENT.names, id=str(batch.id))
    database.rows("retry_some", id=str(batch.id), limit=1)
    complete(leases, claim(leases))

    assert database.rows("finish_batches", limit=10) == []


def test_a_cancel_takes_a_retry_back_and_the_other_way_round(
    batches: BatchStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = failed_batch(batches, leases)
    batches.retry(EVERY_CLIENT, batch.id)
    batches.cancel(EVERY_CLIENT, batch.id)
    cancelled = batches.stored(batch.id)
    batches.retry(EVERY_CLIENT, batch.id)
    again = batches.stored(batch.id)

    assert (cancelled.counts.cancelled, cancelled.retry_requested_at) == (2, None)
    assert (again.counts.pending, again.cancel_requested_at) == (2, None)


def test_the_retry_of_one_task_opens_its_batch_unless_that_is_being_cancelled(
    batches: BatchStore, store: TaskStore, leases: LeaseStore, database: Database, maintain: Maintain
) -> None:
    batch = failed_batch(batches, leases)
    _, failed, *_ = store.page(EVERY_CLIENT, limit=10, batch_id=batch.id)[0]
    maintain()

    store.retry(EVERY_CLIENT, failed.id)

    opened = batches.stored(batch.id)
    database.rows("ask_cancel", clients=EVERY_CLIENT.names, id=str(batch.id))
    other = store.page(EVERY_CLIENT, limit=1, batch_id=batch.id, status="failed")[0][0]
    with pytest.raises(Conflict, match="is being cancelled"):
        store.retry(EVERY_CLIENT, other.id)
    batches.cancel(EVERY_CLIENT, batch.id)
    maintain()
    store.retry(EVERY_CLIENT, failed.id)
    assert (opened.finished_at, opened.generation) == (None, 2)
    assert batches.stored(batch.id).cancel_requested_at is None


def test_an_end_that_is_found_while_a_task_is_retried_is_no_end(
    batches: BatchStore, store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    """The retry commits between the look at the tasks and the write: the generation tells."""
    batch = failed_batch(batches, leases)
    _, failed, *_ = store.page(EVERY_CLIENT, limit=10, batch_id=batch.id)[0]
    found: list[Any] = []
    looking = threading.Thread(target=lambda: found.extend(database.rows("finish_batches", limit=10)))

    with database.transaction() as connection:
        connection.execute(QUERIES["retry"], {"id": str(failed.id), "clients": EVERY_CLIENT.names})
        looking.start()
        _wait_for_lock(database)
    looking.join(30)

    assert found == []
    assert batches.stored(batch.id).finished_at is None


def test_a_task_that_is_retried_while_the_end_is_written_opens_the_batch(
    batches: BatchStore, store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    batch = failed_batch(batches, leases)
    _, failed, *_ = store.page(EVERY_CLIENT, limit=10, batch_id=batch.id)[0]
    retrying = threading.Thread(target=lambda: store.retry(EVERY_CLIENT, failed.id))

    with database.transaction() as connection:
        connection.execute(QUERIES["finish_batches"], {"limit": 10})
        retrying.start()
        _wait_for_lock(database)
    retrying.join(30)

    opened = batches.stored(batch.id)
    assert (opened.finished_at, opened.generation) == (None, 2)


def _wait_for_lock(database: Database) -> None:
    sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    pause = threading.Event()
    for _ in range(400):
        if execute(database, sql):
            return
        pause.wait(0.05)
    raise AssertionError("nobody waits for a lock")
