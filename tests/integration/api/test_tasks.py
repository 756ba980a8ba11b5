"""Tasks over HTTP: submit, read, wait, list; and the poll bridge beside them."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import Celery
from flask.testing import FlaskClient
from sqlalchemy import text

from api import create_app
from api.admission import Kind
from gifty_compute.core import Core, build
from gifty_compute.settings import Settings
from gifty_compute.wire import vectors
from tests.conftest import LOCAL_LOGIC
from tests.integration.conftest import API, WORKER

VECTOR = (np.arange(384, dtype=np.float32) + 1).tolist()


def claim(client: FlaskClient, **query: Any) -> Any:
    answer = client.get(
        "/internal/workers/tasks", query_string={"worker_id": "kaggle-1", **query}, headers=WORKER
    )
    assert answer.status_code == 200, answer.json
    return answer.json


def send(client: FlaskClient, task_id: str, **body: Any) -> Any:
    return client.post(f"/internal/workers/tasks/{task_id}/result", json=body, headers=WORKER)


def test_the_bare_contract_works_a_task_off(client: FlaskClient, submit: Any) -> None:
    task = submit("чайник")

    claimed = claim(client, task_type="embedding", limit=10)
    done = send(client, claimed["tasks"][0]["id"], status="completed", result={"embeddings": [VECTOR]})

    assert claimed["count"] == 1
    assert claimed["lease_seconds"] == 1800
    assert claimed["tasks"][0]["status"] == "processing"
    assert claimed["tasks"][0]["worker_id"] == "kaggle-1"
    assert claimed["tasks"][0]["started_at"].endswith("Z")
    assert done.status_code == 200
    found = client.get(f"/v1/tasks/{task['id']}", headers=API).json
    assert found["status"] == "completed"
    assert found["result"]["embeddings"] == [VECTOR]
    assert found["result"]["space"] == "multilingual-e5-small-q4"


def test_binary_vectors_read_as_lists(client: FlaskClient, submit: Any) -> None:
    task = submit("чайник")
    claim(client)
    sent = vectors.encode(np.array([VECTOR], dtype=np.float16))

    done = send(client, task["id"], status="completed", result={"embeddings": sent})

    assert done.status_code == 200
    assert done.json["result"]["embeddings"] == [np.float16(VECTOR).astype(np.float32).tolist()]


def test_a_lost_answer_may_be_asked_for_again(client: FlaskClient, submit: Any) -> None:
    task = submit()
    claim(client)
    body = {"status": "completed", "result": {"embeddings": [VECTOR]}}

    first, again = send(client, task["id"], **body), send(client, task["id"], **body)

    assert first.status_code == again.status_code == 200
    assert first.json == again.json


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"status": "completed", "result": {"embeddings": [[1.0]]}}, 422, "invalid_result"),
        ({"status": "completed", "result": None}, 422, "invalid_value"),
        ({"status": "done"}, 422, "invalid_value"),
        ({"status": "failed", "attempt": 9}, 409, "lease_lost"),
        ({"status": "failed", "extra": 1}, 422, "invalid_value"),
    ],
)
def test_a_wrong_result_is_refused_and_the_task_stays(
    client: FlaskClient, submit: Any, body: dict[str, Any], status: int, code: str
) -> None:
    task = submit()
    claim(client)

    answer = send(client, task["id"], **body)

    assert answer.status_code == status
    assert answer.json["error"]["code"] == code
    assert answer.json["detail"] == answer.json["error"]["message"]
    assert client.get(f"/v1/tasks/{task['id']}", headers=API).json["status"] == "processing"


def test_a_finished_task_takes_no_other_outcome(client: FlaskClient, submit: Any) -> None:
    task = submit()
    claim(client)
    send(client, task["id"], status="completed", result={"embeddings": [VECTOR]})

    other = send(client, task["id"], status="completed", result={"embeddings": [VECTOR[::-1]]})
    failed = send(client, task["id"], status="failed", error="late")

    assert (other.status_code, other.json["error"]["code"]) == (409, "task_finished")
    assert (failed.status_code, failed.json["error"]["code"]) == (409, "task_finished")


def test_a_failure_counts_once_and_the_last_one_ends_the_task(client: FlaskClient, submit: Any) -> None:
    first, second = submit("1"), submit("2", max_attempts=1)
    claim(client, lease=60)

    counted = send(client, first["id"], status="failed", error="oom", attempt=1).json
    again = send(client, first["id"], status="failed", error="oom, said anew", attempt=1).json
    last = send(client, second["id"], status="failed", error="oom", attempt=1).json

    assert (counted["status"], counted["failures"], counted["error"]) == ("pending", 1, "oom")
    assert (again["status"], again["failures"], again["error"]) == ("pending", 1, "oom")
    assert (last["status"], last["failures"]) == ("failed", 1)


def test_a_failure_for_good_ends_the_task(client: FlaskClient, submit: Any) -> None:
    task = submit()
    claim(client, lease=60)

    failed = send(client, task["id"], status="failed", error="unreadable", attempt=1, retryable=False)

    assert (failed.status_code, failed.json["status"]) == (200, "failed")


def test_of_an_attempt_whose_lease_ran_out_a_failure_is_refused_and_a_result_taken(
    client: FlaskClient, core: Core, submit: Any
) -> None:
    task = submit()
    claim(client, lease=60)
    with core.database.connection() as connection:
        connection.execute(text("UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s'"))
    core.database.rows("sweep", limit=10, silence_seconds=30)
    (present,) = claim(client, worker_id="kaggle-2", lease=60)["tasks"]

    failed = send(client, task["id"], status="failed", error="slow", attempt=1)
    done = send(client, task["id"], status="completed", result={"embeddings": [VECTOR]}, attempt=1)

    assert present["attempt"] == 2
    assert (failed.status_code, failed.json["error"]["code"]) == (409, "lease_lost")
    assert (done.status_code, done.json["status"]) == (200, "completed")


def test_a_heartbeat_and_a_release_speak_for_their_own_tasks(client: FlaskClient, submit: Any) -> None:
    task = submit()
    held = claim(client, lease=60)["tasks"][0]
    stranger = str(uuid.uuid4())

    beat = client.post(
        "/internal/workers/heartbeat",
        json={
            "worker_id": "kaggle-1",
            "tasks": [{"id": held["id"], "attempt": 1}, {"id": stranger, "attempt": 1}],
        },
        headers=WORKER,
    )
    given = client.post(
        "/internal/workers/release",
        json={"worker_id": "kaggle-1", "tasks": [{"id": held["id"], "attempt": 1}], "reason": "drain"},
        headers=WORKER,
    )

    assert beat.json["lost"] == [stranger]
    assert beat.json["drain"] is False
    assert given.json == {"released": [task["id"]]}
    assert client.get(f"/v1/tasks/{task['id']}", headers=API).json["status"] == "pending"


def test_bare_claims_get_the_default_model_only(client: FlaskClient) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["a"], "model": "BAAI/bge-m3"}}
    task = client.post("/v1/tasks", json=body, headers=API).json

    bare = claim(client)
    named = claim(client, model="bge-m3")

    assert task["model"] == "bge-m3"
    assert bare["count"] == 0
    assert [one["id"] for one in named["tasks"]] == [task["id"]]
    assert named["lease_seconds"] == 90


def test_waiting_ends_with_the_task(client: FlaskClient, core: Core, submit: Any) -> None:
    task = submit()
    claim(client)
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            client.application.test_client().get(f"/v1/tasks/{task['id']}?wait=30", headers=API).json
        )
    )

    waiting.start()
    send(client, task["id"], status="completed", result={"embeddings": [VECTOR]})
    waiting.join(20)

    assert answers[0]["status"] == "completed"


def test_waits_over_the_cap_are_answered_at_once(core: Core, submit: Any, client: FlaskClient) -> None:
    task = submit()
    admission = client.application.extensions["admission"]
    while admission.try_enter(Kind.WAITS, "worker") or admission.try_enter(Kind.WAITS, "another"):
        pass

    answer = client.get(f"/v1/tasks/{task['id']}?wait=60", headers=API)

    assert answer.json["status"] == "pending"


def test_lists_filter_and_page(client: FlaskClient, submit: Any) -> None:
    ids = [submit(str(n))["id"] for n in range(3)]
    claim(client, limit=1)

    page = client.get("/v1/tasks?limit=2", headers=API).json
    rest = client.get(f"/v1/tasks?limit=2&cursor={page['next_cursor']}", headers=API).json
    processing = client.get("/v1/tasks?status=processing", headers=API).json

    assert [task["id"] for task in page["tasks"] + rest["tasks"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert [task["id"] for task in processing["tasks"]] == ids[:1]


def test_idempotency_keys_answer_200_with_the_first_task_and_409_for_another_body(
    client: FlaskClient,
) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["a"]}}
    headers = {**API, "Idempotency-Key": "order-1"}

    first = client.post("/v1/tasks", json=body, headers=headers)
    again = client.post("/v1/tasks", json=body, headers=headers)
    other = client.post("/v1/tasks", json={**body, "priority": "high"}, headers=headers)

    assert [first.status_code, again.status_code, other.status_code] == [202, 200, 409]
    assert again.json["id"] == first.json["id"]
    assert other.json["error"]["code"] == "idempotency_conflict"


def test_request_ids_are_echoed_and_kept_with_the_task(client: FlaskClient, core: Core) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["a"]}}

    answer = client.post("/v1/tasks", json=body, headers={**API, "X-Request-Id": "req-77"})

    assert answer.headers["X-Request-Id"] == "req-77"
    row = core.database.row("stored", id=answer.json["id"])
    assert row is not None
    assert row["request_id"] == "req-77"


def test_with_external_workers_switched_off_nothing_is_handed_out_but_results_are_taken(
    settings: Settings, tmp_path: Path, client: FlaskClient, submit: Any
) -> None:
    handed_out = submit("до")
    submit("после")
    claim(client, limit=1)
    logic = tmp_path / "logic.yaml"
    logic.write_text(LOCAL_LOGIC.read_text() + "features: {enable_external_workers: false}\n")
    off = build(
        settings.model_copy(update={"logic_config_path": logic}), Celery("test", set_as_current=False)
    )
    switched_off = create_app(off).test_client()

    none = claim(switched_off)
    done = send(switched_off, handed_out["id"], status="completed", result={"embeddings": [VECTOR]})

    off.close()
    assert (none["tasks"], none["count"]) == ([], 0)
    assert done.status_code == 200
