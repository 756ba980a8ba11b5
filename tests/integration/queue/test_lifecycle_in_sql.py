"""Cancel, retry, history, replays and mercy on real PostgreSQL."""

from __future__ import annotations

import threading
from random import Random
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import text

from gifty_compute.errors import Conflict, LeaseLost, TaskFinished
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import Held, Holder, SubmitRequest, Task, Want
from tests.conftest import EVERY_CLIENT

ALICE = Holder(worker_id="alice", session="1", credential="token-a", strict=True)
BOB = Holder(worker_id="bob", session="1", credential="token-b", strict=True)


def submit(store: TaskStore, words: str = "чайник", **fields: Any) -> Task:
    request = SubmitRequest(task_type="embedding", payload={"texts": [words]}, **fields)
    return store.submit(request, Origin(client="shop"))[0]


def claim(leases: LeaseStore, holder: Holder = ALICE, limit: int = 10, **fields: Any) -> tuple[Task, ...]:
    fields = {"claim_id": uuid4(), **fields}
    return leases.claim(holder, Want(limit=limit, **fields)).tasks


def vector(seed: int = 0) -> dict[str, Any]:
    return {"embeddings": np.random.default_rng(seed).normal(size=(1, 384)).astype(np.float32)}


def execute(database: Database, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    with database.connection() as connection:
        result = connection.execute(text(sql), parameters)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def expire(database: Database) -> None:
    execute(
        database,
        "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s' WHERE status = 'processing'",
    )
    database.rows("sweep", limit=100, silence_seconds=30)


def history(database: Database, task: Task) -> list[tuple[int, str, str]]:
    [row] = execute(database, "SELECT history FROM compute_tasks WHERE id = :id", id=str(task.id))
    return [(entry["attempt"], entry["worker_id"], entry["end"]) for entry in row["history"] or []]


def callbacks(database: Database) -> list[str]:
    return [row["id"] for row in execute(database, "SELECT id FROM compute_callbacks ORDER BY id")]


def test_a_cancelled_task_is_told_to_its_holder_and_takes_no_result(
    store: TaskStore, leases: LeaseStore
) -> None:
    submit(store)
    (task,) = claim(leases)

    store.cancel(EVERY_CLIENT, task.id)

    assert leases.extend(ALICE, [Held(id=task.id, attempt=1)]).cancelled == (task.id,)
    with pytest.raises(TaskFinished):
        leases.complete(ALICE, task, vector())
    assert store.stored(task.id).status == "cancelled"


def test_cancelling_twice_is_once_and_a_finished_task_stays_finished(
    store: TaskStore, leases: LeaseStore
) -> None:
    first, second = submit(store, "1"), submit(store, "2")
    once, twice = store.cancel(EVERY_CLIENT, first.id), store.cancel(EVERY_CLIENT, first.id)
    (task,) = claim(leases)
    leases.complete(ALICE, task, vector())

    assert once.completed_at == twice.completed_at
    with pytest.raises(TaskFinished):
        store.cancel(EVERY_CLIENT, second.id)


def test_a_retry_begins_a_generation_in_which_attempts_go_on_growing(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, max_attempts=1)
    (task,) = claim(leases)
    leases.fail(ALICE, task, "out of memory")

    again = store.retry(EVERY_CLIENT, task.id)

    assert (again.status, again.failures, again.error, again.completed_at) == ("pending", 0, None, None)
    (held,) = claim(leases, BOB)
    assert held.attempt == 2
    with pytest.raises(Conflict):
        store.retry(EVERY_CLIENT, task.id)
    [row] = execute(database, "SELECT generation FROM compute_tasks")
    assert row["generation"] == 2


def test_history_says_who_held_which_attempt_and_how_it_ended(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (first,) = claim(leases)
    leases.release(ALICE, [Held(id=first.id, attempt=1)], "drain")
    (second,) = claim(leases, BOB)
    expire(database)
    (third,) = claim(leases)
    leases.fail(ALICE, third, "out of memory")

    told = history(database, second)

    assert told == [(1, "alice", "drain"), (2, "bob", "expired"), (3, "alice", "failed")]


def test_history_keeps_the_last_twenty_attempts(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    for _ in range(25):
        (task,) = claim(leases)
        leases.release(ALICE, [Held(id=task.id, attempt=task.attempt)])

    assert [attempt for attempt, _, _ in history(database, task)] == list(range(6, 26))


def test_one_claim_and_one_result_write_no_history(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (task,) = claim(leases)

    leases.complete(ALICE, task, vector())

    assert history(database, task) == []


def test_a_late_result_is_believed_from_the_one_who_was_handed_that_attempt(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (late,) = claim(leases)
    expire(database)
    (held,) = claim(leases, BOB)

    with pytest.raises(LeaseLost):
        leases.complete(BOB, late, vector())
    with pytest.raises(LeaseLost):
        leases.complete(ALICE, held, vector())
    ended = leases.complete(ALICE, late, vector())

    assert ended.worker_id == "alice"
    assert history(database, late)[-1] == (2, "bob", "overtaken")


def test_a_failure_is_believed_from_its_holder_alone(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (held,) = claim(leases)

    with pytest.raises(LeaseLost):
        leases.fail(BOB, held, "not mine")

    assert store.stored(held.id).failures == 0


def test_a_claim_id_counts_once_even_at_the_same_moment(store: TaskStore, leases: LeaseStore) -> None:
    for n in range(40):
        submit(store, str(n))
    want, taken, start = Want(limit=4, claim_id=uuid4()), [], threading.Barrier(8)

    def take() -> None:
        start.wait(10)
        taken.append(frozenset(task.id for task in leases.claim(ALICE, want).tasks))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len({task for tasks in taken for task in tasks}) == 4


def test_a_claim_id_whose_tasks_have_ended_gets_nothing_new(store: TaskStore, leases: LeaseStore) -> None:
    submit(store, "1")
    submit(store, "2")
    want = Want(limit=1, claim_id=uuid4())
    (task,) = leases.claim(ALICE, want).tasks
    leases.complete(ALICE, task, vector())

    assert leases.claim(ALICE, want).tasks == ()


def test_a_claim_stops_at_its_tokens_but_always_takes_one(store: TaskStore, leases: LeaseStore) -> None:
    for _ in range(5):
        submit(store, "а" * 300)

    few = claim(leases, max_tokens=250)
    one = claim(leases, max_tokens=1)

    assert (len(few), len(one)) == (3, 1)


def test_a_claim_leaves_a_worker_below_its_cap(store: TaskStore, database: Database, logic: Logic) -> None:
    few = logic.file.leases.model_copy(update={"most_held": 3})
    capped = Logic(logic.file.model_copy(update={"leases": few}), "capped")
    small = LeaseStore(database, lambda: capped, Random(7))
    for n in range(6):
        submit(store, str(n))

    first, second = claim(small, limit=2), claim(small, limit=5)
    other = claim(small, BOB, limit=5)

    assert (len(first), len(second), len(other)) == (2, 1, 3)


def test_only_the_asked_spaces_are_handed_out(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)

    assert claim(leases, spaces=("another",)) == ()
    assert len(claim(leases, spaces=("another", "multilingual-e5-small-q4"))) == 1


def test_what_two_exhaustive_heartbeats_miss_goes_back(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    submit(store, "2")
    known, lost = claim(leases)
    held = [Held(id=known.id, attempt=known.attempt)]

    first = leases.miss(ALICE, held)
    second = leases.miss(ALICE, held)

    assert (first, second) == ([], [lost.id])
    assert store.stored(known.id).status == "processing"
    assert store.stored(lost.id).failures == 0
    assert history(database, lost) == [(1, "alice", "missed")]


def test_a_heartbeat_that_names_a_task_forgives_the_one_that_did_not(
    store: TaskStore, leases: LeaseStore
) -> None:
    submit(store)
    (task,) = claim(leases)

    leases.miss(ALICE, [])
    leases.extend(ALICE, [Held(id=task.id, attempt=task.attempt, progress=0.5)])
    again = leases.miss(ALICE, [])

    assert again == []
    assert store.stored(task.id).progress == 0.5


def test_progress_that_is_too_near_to_zero_for_the_column_is_zero(
    store: TaskStore, leases: LeaseStore
) -> None:
    submit(store)
    (task,) = claim(leases)

    leases.extend(ALICE, [Held(id=task.id, attempt=task.attempt, progress=2.2e-313)])

    assert store.stored(task.id).progress == 0


def test_other_sessions_of_a_worker_keep_what_they_hold(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    claim(leases)
    other = ALICE.model_copy(update={"session": "2"})

    leases.miss(other, [])

    assert leases.miss(other, []) == []


def test_a_claim_notices_expired_leases_by_itself(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    claim(leases)
    execute(database, "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s'")

    (task,) = claim(leases, BOB)

    assert task.attempt == 2


def test_after_a_silence_of_ours_nobody_loses_a_lease_for_it(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    submit(store, "2")
    long_gone, good = claim(leases)
    execute(database, "INSERT INTO compute_maintenance VALUES (true, now() - interval '10 min')")
    for task, minutes in ((long_gone, 11), (good, 5)):
        execute(
            database,
            "UPDATE compute_tasks SET lease_expires_at = now() - make_interval(mins => :m) WHERE id = :id",
            m=minutes,
            id=str(task.id),
        )

    nobody = database.rows("sweep", limit=100, silence_seconds=30)
    spared = database.rows("mercy", silence_seconds=30)
    swept = database.rows("sweep", limit=100, silence_seconds=30)

    assert nobody == []
    assert [UUID(str(row["id"])) for row in spared] == [good.id]
    assert [UUID(str(row["id"])) for row in swept] == [long_gone.id]


def test_an_end_writes_its_one_callback_in_the_same_transaction(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    done = submit(store, "1", callback_url="https://backend.example/done")
    failed = submit(store, "2", callback_url="https://backend.example/done", max_attempts=1)
    cancelled = submit(store, "3", callback_url="https://backend.example/done")
    silent = submit(store, "4")
    store.cancel(EVERY_CLIENT, cancelled.id)
    first, second, third = claim(leases)

    leases.complete(ALICE, first, vector())
    leases.complete(ALICE, first, vector())
    leases.fail(ALICE, second, "oom")
    leases.complete(ALICE, third, vector())

    assert third.id == silent.id
    assert callbacks(database) == sorted([f"{done.id}.1.task.completed", f"{failed.id}.1.task.failed"])


def test_each_generation_has_a_callback_of_its_own(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, callback_url="https://backend.example/done", max_attempts=1)
    (task,) = claim(leases)
    leases.fail(ALICE, task, "oom")
    store.retry(EVERY_CLIENT, task.id)
    (again,) = claim(leases)

    leases.complete(ALICE, again, vector())

    assert callbacks(database) == [f"{task.id}.1.task.failed", f"{task.id}.2.task.completed"]


def test_many_results_get_a_verdict_each(store: TaskStore, leases: LeaseStore) -> None:
    for n in range(3):
        submit(store, str(n))
    first, second, third = claim(leases)
    store.cancel(EVERY_CLIENT, third.id)
    third = store.find([third.id])[third.id]

    verdicts = leases.complete_many(
        ALICE, [(first, vector()), (second, {"embeddings": [[0.0] * 384]}), (third, vector())]
    )

    assert [error and error.code for error in verdicts] == [None, "invalid_result", "task_finished"]


def test_a_failure_told_twice_is_known_by_its_attempt_not_by_its_words(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (first,) = claim(leases)
    leases.fail(ALICE, first, "out of memory")
    execute(database, "UPDATE compute_tasks SET available_at = NULL")
    (second,) = claim(leases, BOB)

    again = leases.fail(ALICE, first, "in other words")

    assert (again.status, again.failures, again.attempt) == ("processing", 1, 2)
    assert leases.extend(BOB, [Held(id=second.id, attempt=2)]).lost == ()
    with pytest.raises(LeaseLost):
        leases.fail(BOB, first, "out of memory")


def test_a_failure_of_an_attempt_that_ended_otherwise_is_refused(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (task,) = claim(leases)
    expire(database)

    with pytest.raises(LeaseLost):
        leases.fail(ALICE, task, "late")

    assert store.stored(task.id).failures == 1  # by its lease, which ran out while it was held alone


def test_a_failure_is_not_known_of_a_task_that_failed_for_good_by_its_lease(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, max_attempts=1)
    (task,) = claim(leases)
    expire(database)
    assert store.stored(task.id).status == "failed"

    for attempt in (task.attempt, 0):
        with pytest.raises(TaskFinished):
            leases.fail(ALICE, task.model_copy(update={"attempt": attempt}), "late")


def test_a_failure_told_once_does_not_count_again_in_the_next_generation(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, max_attempts=1)
    (task,) = claim(leases)
    leases.fail(ALICE, task, "out of memory")
    store.retry(EVERY_CLIENT, task.id)

    again = leases.fail(ALICE, task, "out of memory")

    assert (again.status, again.failures) == ("pending", 0)


def test_who_was_not_handed_an_attempt_learns_nothing_of_the_task(
    store: TaskStore, leases: LeaseStore
) -> None:
    submit(store)
    (task,) = claim(leases)
    leases.complete(ALICE, task, vector())

    with pytest.raises(TaskFinished):
        leases.complete(BOB, task, vector())
    with pytest.raises(TaskFinished):
        leases.fail(BOB, task, "out of memory")
