"""The conformance suite of a worker's four verbs: the SQL store and the HTTP client must behave alike."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import text

from gifty_compute.core import Core
from gifty_compute.errors import (
    GiftyComputeError,
    InvalidResult,
    LeaseLost,
    NotFound,
    TaskFinished,
    Unauthorized,
)
from gifty_compute.perform import TaskSource
from gifty_compute.poll.client import PollClient
from gifty_compute.queue.source import SqlSource
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import Held, Holder, Outcome, SubmitRequest, Task, Want
from gifty_compute.wire.token import MintRequest
from tests.conftest import EVERY_CLIENT

# Over HTTP the facade fills in the credential from the token, which goes by this name.
ALICE = Holder(worker_id="alice", session="1", credential="shared")
BOB = Holder(worker_id="bob", session="1", credential="shared")
MODEL = "multilingual-e5-small"


@pytest.fixture(params=["sql", "http", "http with a token of its own"])
def source(request: pytest.FixtureRequest, core: Core) -> TaskSource:
    if request.param == "sql":
        return SqlSource(core.leases, core.store)
    token = "internal-token"
    if request.param != "http":
        token = core.tokens.mint(MintRequest(name="alice"), created_by="anna").token
    return PollClient(request.getfixturevalue("facade_url"), token)


@pytest.fixture
def submit(core: Core) -> Callable[..., Task]:
    def submit(text: str = "чайник", max_attempts: int = 5) -> Task:
        request = SubmitRequest(task_type="embedding", payload={"texts": [text]}, max_attempts=max_attempts)
        return core.store.submit(request, Origin(client="shop"))[0]

    return submit


def want(limit: int = 10, **fields: object) -> Want:
    return Want.model_validate({"models": (MODEL,), "limit": limit, "claim_id": uuid4(), **fields})


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 384)).astype(np.float32)


def held(*tasks: Task) -> list[Held]:
    return [Held(id=task.id, attempt=task.attempt) for task in tasks]


def completed(task: Task, vectors: np.ndarray) -> Outcome:
    return Outcome(id=task.id, attempt=task.attempt, status="completed", result={"embeddings": vectors})


def failed(task: Task, error: str, *, retryable: bool = True) -> Outcome:
    return Outcome(id=task.id, attempt=task.attempt, status="failed", error=error, retryable=retryable)


def told(source: TaskSource, outcome: Outcome) -> GiftyComputeError | None:
    """Why the outcome was refused, reported alone by alice."""
    [error] = source.report(ALICE, [outcome])
    return error


def expire(core: Core, task: Task) -> None:
    with core.database.connection() as connection:
        connection.execute(
            text("UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": str(task.id)},
        )
    core.database.rows("sweep", limit=10, silence_seconds=30)


def test_claim_takes_what_was_submitted_with_its_payload(
    source: TaskSource, submit: Callable[..., Task]
) -> None:
    submitted = submit("самовар")

    claimed = source.claim(ALICE, want())

    (task,) = claimed.tasks
    assert (task.id, task.status, task.attempt) == (submitted.id, "processing", 1)
    assert task.payload["texts"] == ["самовар"]
    assert (task.model, task.space) == (MODEL, "multilingual-e5-small-q4")
    assert claimed.lease_seconds == 90
    assert source.claim(BOB, want()).tasks == ()


def test_claim_respects_limit_ids_and_lease(source: TaskSource, submit: Callable[..., Task]) -> None:
    ids = [submit(str(n)).id for n in range(4)]

    two = source.claim(ALICE, want(2))
    named = source.claim(ALICE, want(ids=(ids[3],), lease_seconds=45))

    assert [task.id for task in two.tasks] == ids[:2]
    assert [task.id for task in named.tasks] == ids[3:]
    assert named.lease_seconds == 45


def test_a_repeated_claim_gets_the_same_tasks(source: TaskSource, submit: Callable[..., Task]) -> None:
    for n in range(4):
        submit(str(n))
    asked = want(2)

    first, again = source.claim(ALICE, asked), source.claim(ALICE, asked)

    assert [task.id for task in again.tasks] == [task.id for task in first.tasks]


def test_a_reported_result_is_stored(source: TaskSource, core: Core, submit: Callable[..., Task]) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks
    result = {"embeddings": vectors(), "model": MODEL}

    refused = told(source, Outcome(id=task.id, attempt=1, status="completed", result=result))

    assert refused is None
    stored = core.store.stored(task.id)
    assert stored.status == "completed"
    assert stored.result is not None
    np.testing.assert_array_equal(stored.result["embeddings"], vectors())
    assert stored.worker_id == "alice"


def test_a_result_reported_twice_is_one_effect_and_another_outcome_is_refused(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks
    assert told(source, completed(task, vectors())) is None
    first = core.store.stored(task.id)

    again = told(source, completed(task, vectors()))
    other, late = told(source, completed(task, vectors(1))), told(source, failed(task, "late"))

    assert again is None
    assert isinstance(other, TaskFinished)
    assert isinstance(late, TaskFinished)
    stored = core.store.stored(task.id)
    assert (stored.status, stored.completed_at) == ("completed", first.completed_at)
    assert stored.result is not None
    np.testing.assert_array_equal(stored.result["embeddings"], vectors())


def test_an_invalid_result_is_refused_and_the_lease_is_kept(
    source: TaskSource, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks

    refused = told(source, completed(task, np.zeros((1, 384), dtype=np.float32)))

    assert isinstance(refused, InvalidResult)
    extension = source.extend(ALICE, held(task))
    assert (extension.lost, extension.cancelled) == ((), ())


def test_a_failure_counts_and_the_last_one_ends_the_task(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit("1")
    submit("2", max_attempts=1)
    first, second = source.claim(ALICE, want()).tasks

    refused = source.report(ALICE, [failed(first, "oom"), failed(second, "oom")])

    assert refused == [None, None]
    again, ended = core.store.stored(first.id), core.store.stored(second.id)
    assert (again.status, again.failures, again.error) == ("pending", 1, "oom")
    assert (ended.status, ended.failures) == ("failed", 1)


def test_a_failure_for_good_ends_the_task(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks

    refused = told(source, failed(task, "unreadable", retryable=False))

    assert refused is None
    assert core.store.stored(task.id).status == "failed"


def test_release_gives_back_unharmed(source: TaskSource, submit: Callable[..., Task]) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks

    given = source.release(ALICE, held(task))

    assert given == [task.id]
    (again,) = source.claim(BOB, want()).tasks
    assert (again.id, again.attempt, again.failures) == (task.id, 2, 0)
    assert source.release(ALICE, held(task)) == []


def test_a_holder_whose_lease_ran_out_has_lost_it_but_not_its_result(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (late,) = source.claim(ALICE, want()).tasks
    expire(core, late)
    (present,) = source.claim(BOB, want()).tasks

    assert source.extend(ALICE, held(late)).lost == (late.id,)
    assert isinstance(told(source, failed(late, "slow")), LeaseLost)
    assert told(source, completed(late, vectors())) is None
    assert core.store.stored(late.id).status == "completed"
    assert source.extend(BOB, held(present)).lost == (present.id,)
    assert present.attempt == 2


def test_extend_renews_by_the_leases_own_length(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want(lease_seconds=30)).tasks
    with core.database.connection() as connection:
        connection.execute(text("UPDATE compute_tasks SET lease_expires_at = now() + interval '1 s'"))

    source.extend(ALICE, held(task))

    with core.database.connection() as connection:
        left = connection.execute(
            text("SELECT extract(epoch FROM lease_expires_at - now())::float FROM compute_tasks")
        ).scalar()
    assert left is not None
    assert 20 < left <= 30


def test_claim_takes_what_is_of_a_space(source: TaskSource, core: Core, submit: Callable[..., Task]) -> None:
    mine = submit("самовар")
    payload = {"texts": ["чайник"], "model": "bge-m3"}
    other, _ = core.store.submit(SubmitRequest(task_type="embedding", payload=payload), Origin(client="shop"))

    of_none = source.claim(ALICE, want(models=(), spaces=("nowhere",)))
    by_space = source.claim(ALICE, want(models=(), spaces=("multilingual-e5-small-q4",)))
    of_another = source.claim(ALICE, want(models=(MODEL,), spaces=("bge-m3",)))
    by_both = source.claim(ALICE, want(models=("bge-m3",), spaces=("bge-m3",)))

    assert of_none.tasks == of_another.tasks == ()
    assert [task.id for task in by_space.tasks] == [mine.id]
    assert [task.id for task in by_both.tasks] == [other.id]
    assert by_space.lease_seconds == 90


def test_claim_stops_past_its_tokens_but_never_at_none(
    source: TaskSource, submit: Callable[..., Task]
) -> None:
    ids = [submit("слово " * 50).id for _ in range(4)]  # about a hundred tokens each

    two = source.claim(ALICE, want(max_tokens=150))
    one = source.claim(ALICE, want(max_tokens=1))

    assert [task.id for task in two.tasks] == ids[:2]
    assert [task.id for task in one.tasks] == ids[2:3]


def test_a_claim_that_may_wait_takes_at_once_what_is_there(
    source: TaskSource, submit: Callable[..., Task]
) -> None:
    submitted = submit()

    claimed = source.claim(ALICE, want(wait_seconds=20))

    assert [task.id for task in claimed.tasks] == [submitted.id]


def test_a_report_judges_each_by_itself(source: TaskSource, core: Core, submit: Callable[..., Task]) -> None:
    for n in range(6):
        submit(str(n))
    good, bad, cancelled, finished, lone, broken = source.claim(ALICE, want()).tasks
    core.store.cancel(EVERY_CLIENT, cancelled.id)
    assert told(source, completed(finished, vectors())) is None
    stranger = lone.model_copy(update={"id": uuid4()})

    errors = source.report(
        ALICE,
        [
            completed(good, vectors(1)),
            completed(bad, np.zeros((1, 384), dtype=np.float32)),
            failed(broken, "oom"),
            completed(cancelled, vectors(2)),
            completed(finished, vectors()),
            completed(lone.model_copy(update={"attempt": 7}), vectors(3)),
            completed(stranger, vectors(4)),
        ],
    )

    taken = type(None)
    kinds = [type(error) for error in errors]
    assert kinds == [taken, InvalidResult, taken, TaskFinished, taken, LeaseLost, NotFound]
    stored = core.store.stored(good.id)
    assert stored.result is not None
    np.testing.assert_array_equal(stored.result["embeddings"], vectors(1))
    assert core.store.stored(bad.id).status == "processing"
    assert core.store.stored(broken.id).error == "oom"
    assert source.report(ALICE, []) == []


def test_extend_tells_how_far_the_work_is(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks

    source.extend(ALICE, [Held(id=task.id, attempt=1, progress=0.5)])
    source.extend(ALICE, held(task))

    assert core.store.stored(task.id).progress == 0.5


def test_what_two_exhaustive_heartbeats_do_not_name_goes_back(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit("1")
    submit("2")
    kept, forgotten = source.claim(ALICE, want()).tasks

    first = source.extend(ALICE, held(kept), exhaustive=True)
    after_one = core.store.stored(forgotten.id).status
    source.extend(ALICE, held(kept), exhaustive=True)

    assert (first.lost, first.drain) == ((), False)
    assert after_one == "processing"
    assert [core.store.stored(task.id).status for task in (kept, forgotten)] == ["processing", "pending"]


def test_release_says_why(source: TaskSource, core: Core, submit: Callable[..., Task]) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks

    source.release(ALICE, held(task), "oom")

    row = core.database.row("stored", id=str(task.id))
    assert row is not None
    assert row["history"][-1]["end"] == "oom"


def test_a_failure_reported_twice_counts_once(
    source: TaskSource, core: Core, submit: Callable[..., Task]
) -> None:
    submit()
    (task,) = source.claim(ALICE, want()).tasks
    assert told(source, failed(task, "oom")) is None
    first = core.store.stored(task.id)

    assert told(source, failed(task, "oom, said anew")) is None

    again = core.store.stored(task.id)
    assert (first.failures, again.failures, again.error) == (1, 1, "oom")


def test_http_refuses_a_wrong_token(facade_url: str) -> None:
    with pytest.raises(Unauthorized):
        PollClient(facade_url, "wrong").claim(ALICE, want())
