"""Tasks and leases on real PostgreSQL: submit, the workers' verbs, and calls that come twice or late."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import text

from gifty_compute.errors import IdempotencyConflict, InvalidRequest, InvalidResult, LeaseLost, TaskFinished
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import Held, Holder, SubmitRequest, Task, Want
from tests.conftest import EVERY_CLIENT

ALICE = Holder(worker_id="alice", session="1", credential="shared")
BOB = Holder(worker_id="bob", session="1", credential="shared")
ANY = Want(limit=10, lease_seconds=60)


def submit(store: TaskStore, text: str = "чайник", client: str = "shop", **fields: Any) -> Task:
    request = SubmitRequest(task_type="embedding", payload={"texts": [text]}, **fields)
    return store.submit(request, Origin(client=client))[0]


def vector(seed: int = 0, dim: int = 384) -> list[list[float]]:
    return np.random.default_rng(seed).normal(size=(1, dim)).astype(np.float32).tolist()


def expire(database: Database, task: Task) -> None:
    with database.connection() as connection:
        connection.execute(
            text("UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": str(task.id)},
        )


def sweep(database: Database) -> list[dict[str, Any]]:
    return database.rows("sweep", limit=100, silence_seconds=30)


def test_a_submitted_task_is_stored_with_model_input_type_and_space(store: TaskStore) -> None:
    task = submit(store)

    found = store.stored(task.id)

    assert found.status == "pending"
    assert found.payload == {
        "texts": ["чайник"],
        "model": "multilingual-e5-small",
        "input_type": "passage",
    }
    assert found.space == "multilingual-e5-small-q4"
    assert found.created_at.utcoffset() is not None


def test_ids_are_in_the_order_of_the_submits(store: TaskStore) -> None:
    submitted = [submit(store, str(n)).id for n in range(20)]

    assert submitted == sorted(submitted)


def test_the_same_key_and_body_give_the_first_task_again(store: TaskStore) -> None:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["a"]})
    origin = Origin(client="shop", idempotency_key="k")

    first, first_is_new = store.submit(request, origin)
    second, second_is_new = store.submit(request, origin)

    assert (first_is_new, second_is_new) == (True, False)
    assert first.id == second.id


def test_the_same_key_with_another_body_is_a_conflict(store: TaskStore) -> None:
    origin = Origin(client="shop", idempotency_key="k")
    store.submit(SubmitRequest(task_type="embedding", payload={"texts": ["a"]}), origin)

    with pytest.raises(IdempotencyConflict):
        store.submit(SubmitRequest(task_type="embedding", payload={"texts": ["b"]}), origin)


def test_the_key_of_another_client_is_another_key(store: TaskStore) -> None:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["a"]})

    first, _ = store.submit(request, Origin(client="shop", idempotency_key="k"))
    second, new = store.submit(request, Origin(client="jobs", idempotency_key="k"))

    assert new
    assert first.id != second.id


def test_a_refused_payload_leaves_nothing_behind(store: TaskStore) -> None:
    with pytest.raises(InvalidRequest, match=r"payload\.texts"):
        store.submit(SubmitRequest(task_type="embedding", payload={"texts": []}), Origin(client="shop"))

    assert store.page(EVERY_CLIENT, limit=10) == ([], None)


def test_claimed_tasks_are_in_nobody_elses_hands(store: TaskStore, leases: LeaseStore) -> None:
    ids = {submit(store, str(n)).id for n in range(20)}

    first = leases.claim(ALICE, ANY).tasks
    second = leases.claim(BOB, ANY).tasks
    third = leases.claim(ALICE, ANY).tasks

    assert len(first) == len(second) == 10
    assert {task.id for task in first} | {task.id for task in second} == ids
    assert third == ()
    assert {(t.status, t.worker_id, t.attempt) for t in first} == {("processing", "alice", 1)}


def test_concurrent_claims_hand_out_each_task_once(store: TaskStore, leases: LeaseStore) -> None:
    ids = {submit(store, str(n)).id for n in range(100)}
    taken: list[Any] = []

    def take(name: str) -> None:
        while tasks := leases.claim(Holder(worker_id=name), Want(limit=7)).tasks:
            taken.extend(task.id for task in tasks)

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(taken) == sorted(ids)


def test_high_priority_is_claimed_first_then_the_oldest(store: TaskStore, leases: LeaseStore) -> None:
    low = [submit(store, str(n)) for n in range(3)]
    high = submit(store, "now", priority="high")

    claimed = [task.id for task in leases.claim(ALICE, Want(limit=3)).tasks]

    assert claimed == [high.id, low[0].id, low[1].id]


def test_high_priority_of_one_client_comes_before_low_priority_of_all_others(
    store: TaskStore, leases: LeaseStore
) -> None:
    for n in range(12):
        submit(store, str(n), client=f"shop-{n}")
    high = submit(store, "now", client="backend", priority="high")

    (first,) = leases.claim(ALICE, Want(limit=1)).tasks

    assert first.id == high.id


def test_a_huge_client_does_not_starve_a_small_one(store: TaskStore, leases: LeaseStore) -> None:
    for n in range(60):
        submit(store, str(n), client="huge")
    small = submit(store, "mine", client="small")

    claims = 0
    while store.stored(small.id).status == "pending":
        leases.claim(ALICE, Want(limit=2))
        claims += 1

    assert claims <= 20  # in turn by chance: sixty rows ahead of it would have cost 30 claims


def test_only_the_asked_types_and_models_are_handed_out(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    rerank = SubmitRequest(task_type="rerank", payload={"query": "q", "documents": ["d"]})
    wanted, _ = store.submit(rerank, Origin(client="shop"))

    claimed = leases.claim(ALICE, Want(task_types=("rerank",))).tasks
    none = leases.claim(ALICE, Want(models=("bge-m3",))).tasks

    assert [task.id for task in claimed] == [wanted.id]
    assert none == ()


def test_a_claim_by_id_takes_just_these_if_still_pending(store: TaskStore, leases: LeaseStore) -> None:
    first, second = submit(store, "1"), submit(store, "2")
    leases.claim(ALICE, Want(ids=(first.id,)))

    claimed = leases.claim(BOB, Want(ids=(first.id, second.id))).tasks

    assert [task.id for task in claimed] == [second.id]


def test_a_repeated_claim_id_gets_the_same_tasks_and_no_new_ones(
    store: TaskStore, leases: LeaseStore
) -> None:
    for n in range(5):
        submit(store, str(n))
    want = Want(limit=2, claim_id=uuid4())

    first = leases.claim(ALICE, want).tasks
    again = leases.claim(ALICE, want).tasks
    stranger = leases.claim(BOB, want).tasks

    assert [task.id for task in again] == [task.id for task in first]
    assert not {task.id for task in stranger} & {task.id for task in first}


def test_vectors_come_back_as_they_were_sent(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks
    sent = vector()

    leases.complete(ALICE, task, {"embeddings": sent})

    found = store.stored(task.id)
    assert found.status == "completed"
    assert found.result is not None
    np.testing.assert_array_equal(found.result["embeddings"], np.array(sent, dtype=np.float32))
    assert found.result["dim"] == 384
    assert found.lease_expires_at is None


@pytest.mark.parametrize(
    "result",
    [
        {"embeddings": []},
        {"embeddings": [[1.0] * 383]},
        {"embeddings": [[float("nan")] * 384]},
        {"embeddings": [[float("inf")] * 384]},
        {"embeddings": [[0.0] * 384]},
        {"embeddings": [[1.0] * 384] * 2},
        {"embeddings": [[1.0] * 384], "space": "bge-m3"},
        {"embeddings": [[1.0] * 384], "model": "bge-m3"},
        {"embeddings": [["1"] * 384]},
        {"embeddings": None},
        {"vectors": [[1.0] * 384]},
        {},
    ],
)
def test_a_result_that_breaks_the_schema_is_refused_and_the_task_stays(
    store: TaskStore, leases: LeaseStore, result: dict[str, Any]
) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks

    with pytest.raises(InvalidResult):
        leases.complete(ALICE, task, result)

    assert store.stored(task.id).status == "processing"


def test_the_same_result_twice_is_one_effect(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks
    result = {"embeddings": vector()}

    first = leases.complete(ALICE, task, result)
    again = leases.complete(ALICE, task, result)

    assert again.completed_at == first.completed_at


def test_another_result_for_a_finished_task_is_refused(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks
    leases.complete(ALICE, task, {"embeddings": vector(1)})

    with pytest.raises(TaskFinished):
        leases.complete(ALICE, task, {"embeddings": vector(2)})


def test_a_late_result_of_an_expired_attempt_wins_if_nobody_finished(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (late,) = leases.claim(ALICE, ANY).tasks
    expire(database, late)
    sweep(database)
    (held,) = leases.claim(BOB, ANY).tasks

    leases.complete(ALICE, late, {"embeddings": vector()})

    assert store.stored(late.id).worker_id == "alice"
    assert leases.extend(BOB, [Held(id=held.id, attempt=held.attempt)]).lost == (held.id,)


def test_a_late_result_ends_a_task_that_waits_for_its_next_holder(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (late,) = leases.claim(ALICE, ANY).tasks
    expire(database, late)
    sweep(database)

    leases.complete(ALICE, late, {"embeddings": vector()})

    assert store.stored(late.id).status == "completed"
    assert leases.claim(BOB, ANY).tasks == ()


def test_a_late_failure_does_not_disturb_the_new_holder(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store)
    (late,) = leases.claim(ALICE, ANY).tasks
    expire(database, late)
    sweep(database)
    (held,) = leases.claim(BOB, ANY).tasks

    with pytest.raises(LeaseLost):
        leases.fail(ALICE, late, "too slow")

    found = store.stored(late.id)
    assert (found.status, found.attempt, found.worker_id) == ("processing", held.attempt, "bob")


def test_a_result_for_an_attempt_that_was_never_handed_out_is_refused(
    store: TaskStore, leases: LeaseStore
) -> None:
    task = submit(store)

    with pytest.raises(LeaseLost):
        leases.complete(ALICE, task, {"embeddings": vector()})
    with pytest.raises(LeaseLost):
        leases.complete(ALICE, task.model_copy(update={"attempt": 3}), {"embeddings": vector()})


def test_a_failure_makes_the_task_wait_and_counts(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks

    failed = leases.fail(ALICE, task, "CUDA out of memory")

    assert (failed.status, failed.failures, failed.error) == ("pending", 1, "CUDA out of memory")
    assert failed.available_at is not None
    assert leases.claim(BOB, ANY).tasks == ()


def test_the_last_failure_ends_the_task(store: TaskStore, leases: LeaseStore) -> None:
    submit(store, max_attempts=1)
    (task,) = leases.claim(ALICE, ANY).tasks

    failed = leases.fail(ALICE, task, "no")

    assert (failed.status, failed.failures) == ("failed", 1)
    assert failed.completed_at is not None


def test_a_failure_that_will_not_go_away_ends_the_task_at_once(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks

    assert leases.fail(ALICE, task, "unreadable", retryable=False).status == "failed"


def test_without_an_attempt_only_a_bare_claim_of_the_same_credential_may_fail(
    store: TaskStore, leases: LeaseStore
) -> None:
    submit(store, "1")
    (fenced,) = leases.claim(ALICE, ANY).tasks
    submit(store, "2")
    (bare,) = leases.claim(ALICE, Want(bare=True)).tasks
    stranger = Holder(worker_id="alice", credential="other")

    with pytest.raises(LeaseLost):
        leases.fail(ALICE, fenced.model_copy(update={"attempt": 0}), "no")
    with pytest.raises(LeaseLost):
        leases.fail(stranger, bare.model_copy(update={"attempt": 0}), "no")
    failed = leases.fail(ALICE, bare.model_copy(update={"attempt": 0}), "no")

    assert failed.failures == 1


def test_a_released_task_is_pending_at_once_and_unharmed(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks

    leases.release(ALICE, [Held(id=task.id, attempt=task.attempt)])

    (again,) = leases.claim(BOB, ANY).tasks
    assert (again.id, again.attempt, again.failures) == (task.id, 2, 0)


def test_a_heartbeat_renews_what_is_held_and_names_what_is_lost(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    submit(store, "2")
    kept, gone = leases.claim(ALICE, ANY).tasks
    expire(database, gone)
    sweep(database)

    extension = leases.extend(
        ALICE, [Held(id=kept.id, attempt=kept.attempt), Held(id=gone.id, attempt=gone.attempt)]
    )

    assert extension.lost == (gone.id,)
    renewed = store.stored(kept.id).lease_expires_at
    assert renewed is not None
    assert kept.lease_expires_at is not None
    assert renewed > kept.lease_expires_at


def test_an_expiry_alone_counts_and_an_expiry_in_company_makes_suspects(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    (alone,) = leases.claim(ALICE, ANY).tasks
    submit(store, "2")
    submit(store, "3")
    company = leases.claim(ALICE, ANY).tasks
    for task in (alone, *company):
        expire(database, task)

    sweep(database)

    assert store.stored(alone.id).failures == 1
    assert [store.stored(task.id).failures for task in company] == [0, 0]
    for _ in company:
        (suspect,) = leases.claim(BOB, ANY).tasks
        assert suspect.id in {task.id for task in company}


def test_a_suspect_stays_alone_until_it_is_done(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    submit(store, "2")
    for task in leases.claim(ALICE, ANY).tasks:
        expire(database, task)
    sweep(database)
    (first,) = leases.claim(BOB, ANY).tasks
    expire(database, first)
    sweep(database)

    submit(store, "3")
    submit(store, "4")

    handed_out = [leases.claim(BOB, ANY).tasks for _ in range(3)]

    assert [len(tasks) for tasks in handed_out] == [1, 1, 2]
    assert store.stored(first.id).failures == 1


def test_high_priority_does_not_wait_for_low_suspects(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    submit(store, "1")
    submit(store, "2")
    for task in leases.claim(ALICE, ANY).tasks:
        expire(database, task)
    sweep(database)
    high = submit(store, "now", priority="high")

    (first,) = leases.claim(BOB, Want(limit=1)).tasks

    assert first.id == high.id


def test_a_failure_that_is_reported_twice_counts_once(store: TaskStore, leases: LeaseStore) -> None:
    submit(store)
    (task,) = leases.claim(ALICE, ANY).tasks

    first = leases.fail(ALICE, task, "out of memory")
    again = leases.fail(ALICE, task, "out of memory")

    assert (again.status, again.failures) == ("pending", 1)
    assert again.available_at == first.available_at


def test_a_task_that_keeps_killing_its_holder_ends_as_failed(
    store: TaskStore, leases: LeaseStore, database: Database
) -> None:
    poison = submit(store, max_attempts=2)

    for _ in range(2):
        (task,) = leases.claim(ALICE, ANY).tasks
        expire(database, task)
        sweep(database)

    found = store.stored(poison.id)
    assert (found.status, found.attempt, found.failures) == ("failed", 2, 2)
    assert "alice" in str(found.error)


def test_pages_go_back_in_time_without_gaps(store: TaskStore) -> None:
    ids = [submit(store, str(n)).id for n in range(7)]

    first, cursor = store.page(EVERY_CLIENT, limit=3)
    second, cursor = store.page(EVERY_CLIENT, limit=3, before=cursor)
    third, end = store.page(EVERY_CLIENT, limit=3, before=cursor)

    assert [task.id for task in (*first, *second, *third)] == ids[::-1]
    assert end is None


def test_a_page_ends_early_where_its_vectors_would_fill_the_memory(
    store: TaskStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gifty_compute.queue.tasks._MOST_NUMBERS_A_PAGE", 500)
    ids = [submit(store, str(n)).id for n in range(3)]
    for task in leases.claim(ALICE, ANY).tasks:
        leases.complete(ALICE, task, {"embeddings": vector()})

    first, cursor = store.page(EVERY_CLIENT, limit=3)
    second, end = store.page(EVERY_CLIENT, limit=3, before=cursor)

    assert [task.id for task in first] == ids[:0:-1]
    assert [task.id for task in second] == ids[:1]
    assert end is None
