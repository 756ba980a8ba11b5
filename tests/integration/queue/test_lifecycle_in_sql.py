"""Cancel, retry, history, replays and mercy on real PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import text

from gifty_compute.errors import Conflict, LeaseLost, TaskFinished
from gifty_compute.queue.database import Database
from gifty_compute.queue.store import Origin, TaskStore
from gifty_compute.wire.task import Held, Holder, SubmitRequest, Task, Want

ALICE = Holder(worker_id="alice", session="1", credential="token-a", strict=True)
BOB = Holder(worker_id="bob", session="1", credential="token-b", strict=True)


def submit(store: TaskStore, words: str = "чайник", **fields: Any) -> Task:
    request = SubmitRequest(task_type="embedding", payload={"texts": [words]}, **fields)
    return store.submit(request, Origin(client="shop"))[0]


def claim(store: TaskStore, holder: Holder = ALICE, limit: int = 10, **fields: Any) -> tuple[Task, ...]:
    fields = {"claim_id": uuid4(), **fields}
    return store.claim(holder, Want(limit=limit, **fields)).tasks


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


def test_a_cancelled_task_is_told_to_its_holder_and_takes_no_result(store: TaskStore) -> None:
    submit(store)
    (task,) = claim(store)

    store.cancel(task.id)

    assert store.extend(ALICE, [Held(id=task.id, attempt=1)]).cancelled == (task.id,)
    with pytest.raises(TaskFinished):
        store.complete(ALICE, task, vector())
    assert store.get(task.id).status == "cancelled"


def test_cancelling_twice_is_once_and_a_finished_task_stays_finished(store: TaskStore) -> None:
    first, second = submit(store, "1"), submit(store, "2")
    once, twice = store.cancel(first.id), store.cancel(first.id)
    (task,) = claim(store)
    store.complete(ALICE, task, vector())

    assert once.completed_at == twice.completed_at
    with pytest.raises(TaskFinished):
        store.cancel(second.id)


def test_a_retry_begins_a_generation_in_which_attempts_go_on_growing(
    store: TaskStore, database: Database
) -> None:
    submit(store, max_attempts=1)
    (task,) = claim(store)
    store.fail(ALICE, task, "out of memory")

    again = store.retry(task.id)

    assert (again.status, again.failures, again.error, again.completed_at) == ("pending", 0, None, None)
    (held,) = claim(store, BOB)
    assert held.attempt == 2
    with pytest.raises(Conflict):
        store.retry(task.id)
    [row] = execute(database, "SELECT generation FROM compute_tasks")
    assert row["generation"] == 2


def test_history_says_who_held_which_attempt_and_how_it_ended(store: TaskStore, database: Database) -> None:
    submit(store)
    (first,) = claim(store)
    store.release(ALICE, [Held(id=first.id, attempt=1)], "drain")
    (second,) = claim(store, BOB)
    expire(database)
    (third,) = claim(store)
    store.fail(ALICE, third, "out of memory")

    told = history(database, second)

    assert told == [(1, "alice", "drain"), (2, "bob", "expired"), (3, "alice", "failed")]


def test_history_keeps_the_last_twenty_attempts(store: TaskStore, database: Database) -> None:
    submit(store)
    for _ in range(25):
        (task,) = claim(store)
        store.release(ALICE, [Held(id=task.id, attempt=task.attempt)])

    assert [attempt for attempt, _, _ in history(database, task)] == list(range(6, 26))


def test_one_claim_and_one_result_write_no_history(store: TaskStore, database: Database) -> None:
    submit(store)
    (task,) = claim(store)

    store.complete(ALICE, task, vector())

    assert history(database, task) == []


def test_a_late_result_is_believed_from_the_one_who_was_handed_that_attempt(
    store: TaskStore, database: Database
) -> None:
    submit(store)
    (late,) = claim(store)
    expire(database)
    (held,) = claim(store, BOB)

    with pytest.raises(LeaseLost):
        store.complete(BOB, late, vector())
    with pytest.raises(LeaseLost):
        store.complete(ALICE, held, vector())
    ended = store.complete(ALICE, late, vector())

    assert ended.worker_id == "alice"
    assert history(database, late)[-1] == (2, "bob", "overtaken")


def test_a_failure_is_believed_from_its_holder_alone(store: TaskStore) -> None:
    submit(store)
    (held,) = claim(store)

    with pytest.raises(LeaseLost):
        store.fail(BOB, held, "not mine")

    assert store.get(held.id).failures == 0


def test_a_claim_id_counts_once_even_at_the_same_moment(store: TaskStore) -> None:
    for n in range(40):
        submit(store, str(n))
    want, taken, start = Want(limit=4, claim_id=uuid4()), [], threading.Barrier(8)

    def take() -> None:
        start.wait(10)
        taken.append(frozenset(task.id for task in store.claim(ALICE, want).tasks))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len({task for tasks in taken for task in tasks}) == 4


def test_a_claim_id_whose_tasks_have_ended_gets_nothing_new(store: TaskStore) -> None:
    submit(store, "1")
    submit(store, "2")
    want = Want(limit=1, claim_id=uuid4())
    (task,) = store.claim(ALICE, want).tasks
    store.complete(ALICE, task, vector())

    assert store.claim(ALICE, want).tasks == ()


def test_a_claim_stops_at_its_tokens_but_always_takes_one(store: TaskStore) -> None:
    for _ in range(5):
        submit(store, "а" * 300)

    few = claim(store, max_tokens=250)
    one = claim(store, max_tokens=1)

    assert (len(few), len(one)) == (3, 1)


def test_a_claim_leaves_a_worker_below_its_cap(store: TaskStore, database: Database) -> None:
    leases = store._logic().file.leases.model_copy(update={"most_held": 3})
    capped = store._logic().file.model_copy(update={"leases": leases})
    logic = type(store._logic())(capped, "capped")
    small = TaskStore(database, lambda: logic, store._rng)
    for n in range(6):
        submit(store, str(n))

    first, second = claim(small, limit=2), claim(small, limit=5)
    other = claim(small, BOB, limit=5)

    assert (len(first), len(second), len(other)) == (2, 1, 3)


def test_only_the_asked_spaces_are_handed_out(store: TaskStore) -> None:
    submit(store)

    assert claim(store, spaces=("another",)) == ()
    assert len(claim(store, spaces=("another", "multilingual-e5-small-q4"))) == 1


def test_what_two_exhaustive_heartbeats_miss_goes_back(store: TaskStore, database: Database) -> None:
    submit(store, "1")
    submit(store, "2")
    known, lost = claim(store)
    held = [Held(id=known.id, attempt=known.attempt)]

    first = store.miss(ALICE, held)
    second = store.miss(ALICE, held)

    assert (first, second) == ([], [lost.id])
    assert store.get(known.id).status == "processing"
    assert store.get(lost.id).failures == 0
    assert history(database, lost) == [(1, "alice", "missed")]


def test_a_heartbeat_that_names_a_task_forgives_the_one_that_did_not(store: TaskStore) -> None:
    submit(store)
    (task,) = claim(store)

    store.miss(ALICE, [])
    store.extend(ALICE, [Held(id=task.id, attempt=task.attempt, progress=0.5)])
    again = store.miss(ALICE, [])

    assert again == []
    assert store.get(task.id).progress == 0.5


def test_other_sessions_of_a_worker_keep_what_they_hold(store: TaskStore) -> None:
    submit(store)
    claim(store)
    other = ALICE.model_copy(update={"session": "2"})

    store.miss(other, [])

    assert store.miss(other, []) == []


def test_a_claim_notices_expired_leases_by_itself(store: TaskStore, database: Database) -> None:
    submit(store)
    claim(store)
    execute(database, "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s'")

    (task,) = claim(store, BOB)

    assert task.attempt == 2


def test_after_a_silence_of_ours_nobody_loses_a_lease_for_it(store: TaskStore, database: Database) -> None:
    submit(store, "1")
    submit(store, "2")
    long_gone, good = claim(store)
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


def test_an_end_writes_its_one_callback_in_the_same_transaction(store: TaskStore, database: Database) -> None:
    done = submit(store, "1", callback_url="https://backend.example/done")
    failed = submit(store, "2", callback_url="https://backend.example/done", max_attempts=1)
    cancelled = submit(store, "3", callback_url="https://backend.example/done")
    silent = submit(store, "4")
    store.cancel(cancelled.id)
    first, second, third = claim(store)

    store.complete(ALICE, first, vector())
    store.complete(ALICE, first, vector())
    store.fail(ALICE, second, "oom")
    store.complete(ALICE, third, vector())

    assert third.id == silent.id
    assert callbacks(database) == sorted([f"{done.id}.1.task.completed", f"{failed.id}.1.task.failed"])


def test_each_generation_has_a_callback_of_its_own(store: TaskStore, database: Database) -> None:
    submit(store, callback_url="https://backend.example/done", max_attempts=1)
    (task,) = claim(store)
    store.fail(ALICE, task, "oom")
    store.retry(task.id)
    (again,) = claim(store)

    store.complete(ALICE, again, vector())

    assert callbacks(database) == [f"{task.id}.1.task.failed", f"{task.id}.2.task.completed"]


def test_many_results_get_a_verdict_each(store: TaskStore) -> None:
    for n in range(3):
        submit(store, str(n))
    first, second, third = claim(store)
    store.cancel(third.id)
    third = store.find([third.id])[third.id]

    verdicts = store.complete_many(
        ALICE, [(first, vector()), (second, {"embeddings": [[0.0] * 384]}), (third, vector())]
    )

    assert [error and error.code for error in verdicts] == [None, "invalid_result", "task_finished"]


def test_a_failure_told_twice_is_known_by_its_attempt_not_by_its_words(
    store: TaskStore, database: Database
) -> None:
    submit(store)
    (first,) = claim(store)
    store.fail(ALICE, first, "out of memory")
    execute(database, "UPDATE compute_tasks SET available_at = NULL")
    (second,) = claim(store, BOB)

    again = store.fail(ALICE, first, "in other words")

    assert (again.status, again.failures, again.attempt) == ("processing", 1, 2)
    assert store.extend(BOB, [Held(id=second.id, attempt=2)]).lost == ()
    with pytest.raises(LeaseLost):
        store.fail(BOB, first, "out of memory")


def test_a_failure_of_an_attempt_that_ended_otherwise_is_refused(
    store: TaskStore, database: Database
) -> None:
    submit(store)
    (task,) = claim(store)
    expire(database)

    with pytest.raises(LeaseLost):
        store.fail(ALICE, task, "late")

    assert store.get(task.id).failures == 1  # by its lease, which ran out while it was held alone


def test_a_failure_told_once_does_not_count_again_in_the_next_generation(
    store: TaskStore, database: Database
) -> None:
    submit(store, max_attempts=1)
    (task,) = claim(store)
    store.fail(ALICE, task, "out of memory")
    store.retry(task.id)

    again = store.fail(ALICE, task, "out of memory")

    assert (again.status, again.failures) == ("pending", 0)


def test_who_was_not_handed_an_attempt_learns_nothing_of_the_task(store: TaskStore) -> None:
    submit(store)
    (task,) = claim(store)
    store.complete(ALICE, task, vector())

    with pytest.raises(TaskFinished):
        store.complete(BOB, task, vector())
    with pytest.raises(TaskFinished):
        store.fail(BOB, task, "out of memory")
