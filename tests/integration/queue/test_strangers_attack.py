"""Strangers who lend a GPU to do harm: by each other's attempts, by failures, by leases that run out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from flask.testing import FlaskClient

from gifty_compute.core import Core
from gifty_compute.wire.task import Want
from tests.integration.queue.test_trust import (
    MODEL,
    TRUSTED,
    Stranger,
    http,
    known,
    referees_work,
    sql,
    submit,
    task,
    truth,
    with_canaries,
)

__all__ = ["http", "submit"]

WANT = Want(models=(MODEL,), claim_id=UUID(int=1))
NOISE = np.random.default_rng(3).normal(size=(2, 384)).astype(np.float32)


@pytest.fixture
def alice(core: Core, http: FlaskClient) -> Stranger:
    return Stranger(core, http, "alice")


@pytest.fixture
def mallory(core: Core, http: FlaskClient) -> Stranger:
    return Stranger(core, http, "mallory")


def quarantined(core: Core) -> set[str]:
    rows = sql(core, "SELECT name FROM compute_worker_tokens WHERE quarantined_at IS NOT NULL")
    return {row["name"] for row in rows}


def code(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, (answer.get_json().get("error") or {}).get("code")


@pytest.mark.parametrize("when", ["in work", "held", "completed"])
@pytest.mark.parametrize("verified", [0, 50])
def test_a_report_about_anothers_attempt_is_refused_and_shows_nothing(
    core: Core, alice: Stranger, mallory: Stranger, submit: Callable[..., str], when: str, verified: int
) -> None:
    known(core, verified)
    submit()
    [claimed] = alice.claim()
    if when != "in work":
        alice.hand_in(claimed)
    if when == "completed":
        referees_work(core)
    before = task(core, claimed["id"]), sql(core, "SELECT * FROM compute_checks")

    right, wrong = mallory.hand_in(claimed), mallory.hand_in(claimed, NOISE)

    assert {code(right)[0], code(wrong)[0]} == {409}
    assert "чай" not in right.get_data(as_text=True) + wrong.get_data(as_text=True)
    assert (task(core, claimed["id"]), sql(core, "SELECT * FROM compute_checks")) == before
    assert quarantined(core) == set()


def test_a_known_stranger_cannot_let_anothers_first_result_pass_unseen(
    core: Core, alice: Stranger, mallory: Stranger, submit: Callable[..., str]
) -> None:
    known(core, 50)
    sql(core, "UPDATE compute_worker_tokens SET verified = 0, valid_in_a_row = 0 WHERE name = 'alice'")
    submit()
    [claimed] = alice.claim()
    mallory.hand_in(claimed)

    answer = alice.hand_in(claimed, NOISE)

    assert answer.get_json()["status"] == "processing"


def test_anothers_canary_cannot_be_answered(
    core: Core, alice: Stranger, mallory: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_canaries(core, monkeypatch)
    [canary] = alice.claim()

    assert code(mallory.hand_in(canary, truth(["нет", "нет же"])))[0] == 409

    assert quarantined(core) == set()
    assert alice.hand_in(canary).get_json()["status"] == "completed"


def test_a_canary_looks_like_a_task_that_has_waited(
    core: Core, alice: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_canaries(core, monkeypatch)
    [canary] = alice.claim()

    assert canary["created_at"] < canary["started_at"]
    assert set(canary["payload"]) == {"texts", "model", "input_type"}


def test_from_quarantine_nothing_is_taken_unseen(
    core: Core, mallory: Stranger, submit: Callable[..., str]
) -> None:
    known(core, 50)
    for n in range(3):
        submit(f"товар {n}", "чай")
    first, second, third = mallory.claim()
    mallory.hand_in(first, np.repeat(truth(["чай"]), 2, axis=0))
    assert quarantined(core) == {"mallory"}
    sql(core, "UPDATE compute_worker_tokens SET valid_in_a_row = 1000")

    answers = [mallory.hand_in(one, NOISE + n) for n, one in enumerate((second, third))]

    assert [answer.get_json()["status"] for answer in answers] == ["processing", "processing"]


@pytest.mark.parametrize("retryable", [True, False])
def test_failures_that_strangers_report_alone_end_no_task(
    core: Core, http: FlaskClient, mallory: Stranger, submit: Callable[..., str], retryable: bool
) -> None:
    task_id = submit()
    for _ in range(7):
        [claimed] = mallory.claim()
        body = {"status": "failed", "error": "нет", "attempt": claimed["attempt"], "retryable": retryable}
        answer = http.post(f"/internal/workers/tasks/{task_id}/result", json=body, headers=mallory.headers)
        assert (answer.status_code, answer.get_json()["status"]) == (200, "pending")
        sql(core, "UPDATE compute_tasks SET available_at = NULL")

    [held] = core.leases.claim(TRUSTED, WANT).tasks
    assert core.leases.fail(TRUSTED, held, "truly broken").status == "failed"


def test_leases_that_strangers_let_run_out_end_no_task(
    core: Core, mallory: Stranger, submit: Callable[..., str]
) -> None:
    task_id = submit()
    for _ in range(7):
        assert [one["id"] for one in mallory.claim(1)] == [task_id]
        sql(core, "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 second'")
        core.maintainer.run_pass()
        assert task(core, task_id)["status"] == "pending"

    [held] = core.leases.claim(TRUSTED, WANT).tasks
    assert core.leases.complete(TRUSTED, held, {"embeddings": truth(["чай", "кофе"])}).status == "completed"


def test_a_newcomer_can_have_few_results_held_however_many_it_hands_in(
    core: Core, mallory: Stranger, submit: Callable[..., str]
) -> None:
    """Each costs a trusted worker the same work again, before all others."""
    for n in range(30):
        submit(f"товар {n}", "чай")

    for _ in range(5):
        for claimed in mallory.claim():
            mallory.hand_in(claimed, NOISE + np.random.default_rng().normal())

    assert sql(core, "SELECT count(*) AS n FROM compute_tasks WHERE referee") == [{"n": 20}]
    sql(core, "UPDATE compute_worker_tokens SET verified = 10")
    assert len(mallory.claim()) == 10
