"""Strangers' GPUs: held until verified, spot checks, canaries, quarantine, corrections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from api import create_app
from gifty_compute.core import Core
from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.reference import Reference
from gifty_compute.queue.tasks import Origin
from gifty_compute.queue.tokens import WorkerTokens
from gifty_compute.wire.task import Holder, SubmitRequest, Want
from gifty_compute.wire.token import MintRequest
from tests.integration.conftest import API

TRUSTED = Holder(worker_id="home", session="1", credential="shared")
MODEL = "multilingual-e5-small"
SPACE = "multilingual-e5-small-q4"


def truth(texts: list[str]) -> np.ndarray:
    """What an honest model says: the same for the same text."""
    rows = [np.random.default_rng(abs(hash(one)) % 2**32).normal(size=384) for one in texts]
    return np.array(rows, dtype=np.float32)


class Stranger:
    """A worker with an untrusted token, over HTTP."""

    def __init__(self, core: Core, http: FlaskClient, name: str = "kaggle") -> None:
        request = MintRequest(name=name, task_types=["embedding"], trust="untrusted")
        minted = WorkerTokens(core.database).mint(request, created_by="test")
        self.token_id, self._http = str(minted.id), http
        self.headers = {"Authorization": f"Bearer {minted.token}"}

    def claim(self, limit: int = 10) -> list[dict[str, Any]]:
        query = {"worker_id": "gpu", "model": MODEL, "limit": limit, "claim_id": str(uuid4())}
        answer = self._http.get("/internal/workers/tasks", query_string=query, headers=self.headers)
        assert answer.status_code == 200, answer.get_json()
        tasks: list[dict[str, Any]] = answer.get_json()["tasks"]
        return tasks

    def hand_in(self, task: dict[str, Any], vectors: np.ndarray | None = None) -> Any:
        found = truth(task["payload"]["texts"]) if vectors is None else vectors
        body = {
            "status": "completed",
            "result": {"embeddings": found.tolist()},
            "worker_id": "gpu",
            "attempt": task["attempt"],
        }
        path = f"/internal/workers/tasks/{task['id']}/result"
        return self._http.post(path, json=body, headers=self.headers)


@pytest.fixture
def http(core: Core) -> FlaskClient:
    return create_app(core).test_client()


@pytest.fixture
def stranger(core: Core, http: FlaskClient) -> Stranger:
    return Stranger(core, http)


@pytest.fixture
def submit(core: Core) -> Callable[..., str]:
    def submit(*texts: str) -> str:
        request = SubmitRequest(
            task_type="embedding",
            payload={"texts": list(texts) or ["чай", "кофе"]},
            callback_url="https://backend.example/done",
        )
        return str(core.store.submit(request, Origin(client="backend"))[0].id)

    return submit


def sql(core: Core, statement: str) -> list[dict[str, Any]]:
    with core.database.connection() as connection:
        result = connection.execute(text(statement))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def known(core: Core, verified: int) -> None:
    """The token is past its first results."""
    sql(core, f"UPDATE compute_worker_tokens SET verified = {verified}, valid_in_a_row = {verified}")


def referees_work(core: Core, *, honest: bool = True) -> int:
    """Trusted workers do what is ready; then maintain judges."""
    done = 0
    while tasks := core.leases.claim(TRUSTED, Want(models=(MODEL,), limit=10, claim_id=uuid4())).tasks:
        for task in tasks:
            if honest:
                core.leases.complete(TRUSTED, task, {"embeddings": truth(task.payload["texts"])})
            else:
                core.leases.fail(TRUSTED, task, "broken", retryable=False)
            done += 1
    core.maintainer.run_pass()
    return done


def token(core: Core) -> dict[str, Any]:
    [row] = sql(core, "SELECT verified, valid_in_a_row, quarantined_at FROM compute_worker_tokens")
    return row


def task(core: Core, task_id: str) -> dict[str, Any]:
    rows = sql(core, f"SELECT * FROM compute_tasks WHERE id = '{task_id}'")
    return rows[0]


def told(core: Core) -> list[str]:
    return [row["type"] for row in sql(core, "SELECT type FROM compute_callbacks ORDER BY created_at")]


def test_a_first_result_waits_for_its_referee_and_is_the_strangers_then(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    task_id = submit()
    [claimed] = stranger.claim()

    answer = stranger.hand_in(claimed)

    assert (answer.status_code, answer.get_json()["status"]) == (200, "processing")
    assert stranger.claim() == []  # the referee is not for strangers
    assert told(core) == []
    assert referees_work(core) == 1
    ended = task(core, task_id)
    assert (ended["status"], ended["worker_id"], ended["credential"]) == (
        "completed",
        "gpu",
        stranger.token_id,
    )
    assert told(core) == ["task.completed"]
    assert token(core) == {"verified": 1, "valid_in_a_row": 1, "quarantined_at": None}
    assert sql(core, "SELECT count(*) AS n FROM compute_tasks WHERE referee") == [{"n": 0}]


def test_a_referee_is_shown_to_no_caller(
    core: Core, http: FlaskClient, stranger: Stranger, submit: Callable[..., str]
) -> None:
    task_id = submit()
    [claimed] = stranger.claim()
    stranger.hand_in(claimed)

    listed = http.get("/v1/tasks", headers=API).get_json()["tasks"]

    assert [one["id"] for one in listed] == [task_id]


def test_a_held_result_that_is_sent_again_is_held_once(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    submit()
    [claimed] = stranger.claim()

    first, again = stranger.hand_in(claimed), stranger.hand_in(claimed)

    assert (first.status_code, again.status_code) == (200, 200)
    assert sql(core, "SELECT count(*) AS n FROM compute_tasks WHERE referee") == [{"n": 1}]
    assert sql(core, "SELECT count(*) AS n FROM compute_checks") == [{"n": 1}]


def test_a_first_result_that_is_wrong_never_takes_effect(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    task_id = submit()
    [claimed] = stranger.claim()
    stranger.hand_in(claimed, truth(["не то", "и это"]))

    referees_work(core)

    stored = core.store.stored(task_id)  # type: ignore[arg-type]
    assert stored.result is not None
    np.testing.assert_array_equal(stored.result["embeddings"], truth(["чай", "кофе"]))
    assert told(core) == ["task.completed"]
    assert token(core)["quarantined_at"] is not None
    submit("ещё")
    assert stranger.claim() == []


def test_without_a_verdict_the_task_goes_to_somebody_else(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    task_id = submit()
    [claimed] = stranger.claim()
    stranger.hand_in(claimed)

    referees_work(core, honest=False)

    assert (task(core, task_id)["status"], task(core, task_id)["failures"]) == ("pending", 0)
    assert token(core)["quarantined_at"] is None


def test_ten_verified_results_are_followed_by_results_that_are_taken_at_once(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    for n in range(10):
        submit(f"товар {n}")
    for claimed in stranger.claim():
        assert stranger.hand_in(claimed).get_json()["status"] == "processing"
    referees_work(core)
    assert token(core)["verified"] == 10

    submit("одиннадцатый")
    [claimed] = stranger.claim()
    answer = stranger.hand_in(claimed)

    assert answer.get_json()["status"] == "completed"


def test_noise_after_honest_work_is_found_recomputed_and_corrected(
    core: Core, stranger: Stranger, submit: Callable[..., str]
) -> None:
    known(core, 50)
    ids = [submit(f"товар {n}") for n in range(200)]
    noise = np.random.default_rng(1)
    rounds = 0
    while rounds < 20 and token(core)["quarantined_at"] is None:
        rounds += 1
        for claimed in stranger.claim(10):
            stranger.hand_in(claimed, noise.normal(size=(1, 384)).astype(np.float32))
        for referee in sql(core, "SELECT id FROM compute_tasks WHERE referee AND status = 'pending'"):
            [held] = core.leases.claim(TRUSTED, Want(ids=(referee["id"],), claim_id=uuid4())).tasks
            core.leases.complete(TRUSTED, held, {"embeddings": truth(held.payload["texts"])})
        core.maintainer.run_pass()

    assert token(core)["quarantined_at"] is not None
    assert stranger.claim() == []
    for _ in range(3):
        referees_work(core)
    for task_id in ids:
        stored = core.store.stored(task_id)  # type: ignore[arg-type]
        assert stored.result is not None
        np.testing.assert_array_equal(stored.result["embeddings"], truth(stored.payload["texts"]))
    revisions = sql(core, "SELECT revision, count(*) AS n FROM compute_tasks GROUP BY revision ORDER BY 1")
    corrected = {row["revision"]: row["n"] for row in revisions}
    assert corrected[1] == rounds * 10
    assert told(core).count("task.corrected") == rounds * 10


@pytest.mark.parametrize("how", ["all rows equal", "another task's"])
def test_what_nobody_could_have_computed_is_refused_at_once(
    core: Core, stranger: Stranger, submit: Callable[..., str], how: str
) -> None:
    known(core, 50)
    submit("один", "два")
    submit("три", "четыре")
    first, second = stranger.claim()
    if how == "all rows equal":
        bad = np.repeat(truth(["один"]), 2, axis=0)
        target = first
    else:
        stranger.hand_in(first)
        bad, target = truth(first["payload"]["texts"]), second

    answer = stranger.hand_in(target, bad)

    assert (answer.status_code, answer.get_json()["error"]["code"]) == (422, "invalid_result")
    assert token(core)["quarantined_at"] is not None


def test_a_canary_with_a_wrong_answer_puts_the_token_into_quarantine(
    core: Core, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_canaries(core, monkeypatch)
    [canary] = stranger.claim()

    stranger.hand_in(canary, truth(["нет", "нет же"]))

    assert token(core)["quarantined_at"] is not None


def test_a_canary_with_the_right_answer_counts_as_verified_and_leaves_nothing(
    core: Core, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_canaries(core, monkeypatch)
    [canary] = stranger.claim()

    answer = stranger.hand_in(canary)

    assert answer.get_json()["status"] == "completed"
    assert token(core)["verified"] == 1
    core.maintainer.run_pass()
    assert sql(core, "SELECT count(*) AS n FROM compute_tasks") == [{"n": 0}]


def with_canaries(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("термокружка", "настольная игра", "набор для вышивания")
    reference = Reference(SPACE, texts, 384, truth(list(texts)).astype("<f4").tobytes())
    file = core.logic.file
    always = file.model_copy(update={"trust": file.trust.model_copy(update={"canary_share": 1.0})})
    logic = replace(core.logic, file=always, references={SPACE: reference})
    monkeypatch.setattr(core.trust, "_logic", lambda: logic)


def test_a_trusted_token_is_believed(core: Core, http: FlaskClient, submit: Callable[..., str]) -> None:
    submit()
    minted = WorkerTokens(core.database).mint(MintRequest(name="home"), created_by="test")
    headers = {"Authorization": f"Bearer {minted.token}"}
    query = {"worker_id": "gpu", "model": MODEL, "claim_id": str(uuid4())}
    [claimed] = http.get("/internal/workers/tasks", query_string=query, headers=headers).get_json()["tasks"]
    body = {"status": "completed", "result": {"embeddings": truth(["x", "y"]).tolist()}, "attempt": 1}

    answer = http.post(f"/internal/workers/tasks/{claimed['id']}/result", json=body, headers=headers)

    assert answer.get_json()["status"] == "completed"
    assert sql(core, "SELECT count(*) AS n FROM compute_checks") == [{"n": 0}]


@pytest.mark.parametrize("task_types", [[], ["llm"], ["embedding", "rerank"]])
def test_an_untrusted_token_is_for_embedding_alone(core: Core, task_types: list[str]) -> None:
    request = MintRequest(name="any", trust="untrusted", task_types=task_types)

    with pytest.raises(InvalidRequest, match="embedding alone"):
        WorkerTokens(core.database).mint(request, created_by="test")
