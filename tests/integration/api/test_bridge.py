"""What newer workers add to the bare contract: long poll, many results in a call, gzip, back-pressure."""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from api import create_app
from api.admission import Kind
from api.places import Places
from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.waits import Waits
from gifty_compute.wire import vectors
from tests.conftest import EVERY_CLIENT, LOCAL_LOGIC
from tests.integration.conftest import API, WORKER

CLAIM = "/internal/workers/tasks"
VECTOR = np.arange(1, 385, dtype=np.float32)
OTHER = VECTOR[::-1].copy()


def claim(client: FlaskClient, **query: Any) -> Any:
    answer = client.get(CLAIM, query_string={"worker_id": "kaggle-1", **query}, headers=WORKER)
    assert answer.status_code == 200, answer.json
    return answer.json


def completed(task: Any, vector: np.ndarray = VECTOR, **more: Any) -> dict[str, Any]:
    result = {"embeddings": vectors.encode(np.array([vector]))}
    return {"id": task["id"], "attempt": 1, "status": "completed", "result": result, **more}


def failed(task: Any, error: str = "oom", **more: Any) -> dict[str, Any]:
    return {"id": task["id"], "attempt": 1, "status": "failed", "error": error, **more}


def report(client: FlaskClient, *outcomes: Any) -> list[Any]:
    body = {"worker_id": "kaggle-1", "results": list(outcomes)}
    answer = client.post("/internal/workers/results", json=body, headers=WORKER)
    assert answer.status_code == 200, answer.json
    return [(one["status"], one["http_status"], one["code"]) for one in answer.json["verdicts"]]


# -- long poll -----------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(client: FlaskClient, core: Core) -> Any:
    """Starts a claim that waits, and gives its future once the poller knows of it."""
    threads = ThreadPoolExecutor(4)

    def start(**query: Any) -> Future[Any]:
        known = len(core.waits._work._waiting)
        future = threads.submit(
            lambda: claim(client.application.test_client(), **{"wait": 20, "lease": 60, **query})
        )
        while len(core.waits._work._waiting) <= known and not future.done():
            threading.Event().wait(0.005)
        return future

    yield start
    threads.shutdown()


def test_a_claim_that_waits_is_answered_when_work_comes(waiting: Any, submit: Any) -> None:
    answer = waiting()

    task = submit("чайник")

    assert [one["id"] for one in answer.result(15)["tasks"]] == [task["id"]]


def test_one_task_goes_to_one_of_the_waiting_workers(waiting: Any, submit: Any) -> None:
    answers = [waiting(worker_id=f"w-{n}", wait=2) for n in range(3)]

    submit("чайник")

    assert sorted(answer.result(15)["count"] for answer in answers) == [0, 0, 1]


def test_a_claim_that_waits_in_vain_is_an_empty_answer(client: FlaskClient) -> None:
    answer = claim(client, wait=0.1, lease=60)

    assert (answer["tasks"], answer["count"]) == ([], 0)
    assert answer["server_time"]


def test_work_of_another_model_wakes_nobody(
    client: FlaskClient, core: Core, waiting: Any, submit: Any
) -> None:
    answer = waiting(model="bge-m3", wait=1)

    submit("чайник")

    assert answer.result(15)["count"] == 0
    assert claim(client)["count"] == 1


def test_a_claim_by_ids_does_not_wait(client: FlaskClient) -> None:
    clock = SystemClock()
    began = clock.monotonic()

    answer = claim(client, id=str(uuid.uuid4()), wait=30)

    assert answer["count"] == 0
    assert clock.monotonic() - began < 15


def test_waiting_workers_and_waiting_callers_share_one_cap(
    client: FlaskClient, core: Core, submit: Any
) -> None:
    admission = client.application.extensions["admission"]
    while admission.try_enter(Kind.WAITS, "caller") or admission.try_enter(Kind.WAITS, "another"):
        pass

    answer = claim(client, wait=30)

    assert answer["count"] == 0


def test_a_worker_that_holds_all_it_may_waits_without_racing(
    core_with: Callable[..., Core], submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = LOCAL_LOGIC.read_text() + "leases: {most_held: 1}\n"
    client = create_app(core_with(limited)).test_client()
    submit("1")
    submit("2")
    claim(client, lease=60)
    asked: list[object] = []
    monkeypatch.setattr(Waits, "wait_for_work", _counted(asked, Waits.wait_for_work))

    answer = claim(client, wait=1, lease=60)

    assert answer["count"] == 0
    assert 1 <= len(asked) <= 8


def _counted(asked: list[object], real: Callable[..., bool]) -> Callable[..., bool]:
    def wait(*arguments: Any) -> bool:
        asked.append(arguments)
        return real(*arguments)

    return wait


# -- many results --------------------------------------------------------------------------------------------


def test_many_results_are_judged_in_order_each_as_if_it_had_come_alone(
    client: FlaskClient, submit: Any
) -> None:
    for n in range(4):
        submit(str(n))
    a, b, c, d = claim(client, lease=60)["tasks"]
    wrong = completed(c, np.zeros(384, dtype=np.float32))

    verdicts = report(
        client,
        completed(a),
        failed(b),
        wrong,
        completed({"id": str(uuid.uuid4())}),
        completed(d, attempt=9),
        {"id": c["id"], "attempt": 1, "status": "completed"},
    )

    assert verdicts == [
        ("completed", 200, None),
        ("pending", 200, None),
        ("refused", 422, "invalid_result"),
        ("refused", 404, "not_found"),
        ("refused", 409, "lease_lost"),
        ("refused", 422, "invalid_value"),
    ]
    states = [client.get(f"/v1/tasks/{one['id']}", headers=API).json["status"] for one in (a, b, c, d)]
    assert states == ["completed", "pending", "processing", "processing"]


def test_results_for_one_task_in_one_call_are_judged_one_after_the_other(
    client: FlaskClient, submit: Any
) -> None:
    for n in range(3):
        submit(str(n))
    a, b, c = claim(client, lease=60)["tasks"]

    verdicts = report(
        client,
        completed(a),
        completed(a),
        completed(a, OTHER),
        failed(a),
        failed(b, retryable=False),
        completed(b),
        completed(c, np.zeros(384, dtype=np.float32)),
        completed(c),
    )

    assert verdicts == [
        ("completed", 200, None),
        ("completed", 200, None),
        ("refused", 409, "task_finished"),
        ("refused", 409, "task_finished"),
        ("failed", 200, None),
        ("refused", 409, "task_finished"),
        ("refused", 422, "invalid_result"),
        ("completed", 200, None),
    ]


def test_a_call_that_is_repeated_changes_nothing_and_is_answered_alike(
    client: FlaskClient, submit: Any
) -> None:
    submit("1")
    submit("2")
    a, b = claim(client, lease=60)["tasks"]

    first, again = report(client, completed(a), failed(b)), report(client, completed(a), failed(b))

    assert first == again
    assert client.get(f"/v1/tasks/{b['id']}", headers=API).json["failures"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "completed",
        [],
        {},
        {"id": "x", "status": "completed"},
        {"id": str(uuid.UUID(int=0)), "status": "done"},
        {"id": str(uuid.UUID(int=0)), "status": "failed", "attempt": 0},
        {"id": str(uuid.UUID(int=0)), "status": "failed", "error": "a\x00"},
        {"id": str(uuid.UUID(int=0)), "status": "failed", "surprise": 1},
    ],
)
def test_a_bad_outcome_spoils_no_other(client: FlaskClient, submit: Any, bad: Any) -> None:
    submit()
    (task,) = claim(client, lease=60)["tasks"]

    verdicts = report(client, bad, completed(task), bad)

    assert [status for status, _, _ in verdicts] == ["refused", "completed", "refused"]
    assert {status for _, status, _ in verdicts[::2]} == {422}


def test_completed_tasks_of_one_call_are_stored_in_one_statement(
    client: FlaskClient, core: Core, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        submit(str(n))
    tasks = claim(client, lease=60, limit=20)["tasks"]
    ran: list[str] = []
    rows = type(core.database).rows
    monkeypatch.setattr(
        type(core.database),
        "rows",
        lambda self, query, **parameters: ran.append(query) or rows(self, query, **parameters),
    )

    verdicts = report(client, *(completed(task) for task in tasks))

    assert {status for status, _, _ in verdicts} == {"completed"}
    assert ran == ["find", "complete"]


def test_a_call_in_which_the_database_fails_is_503_and_may_be_repeated(
    client: FlaskClient, core: Core, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("1")
    submit("2")
    a, b = claim(client, lease=60)["tasks"]
    with monkeypatch.context() as patched:
        patched.setattr(core.leases, "fail", _unavailable)
        body = {"worker_id": "kaggle-1", "results": [completed(a), failed(b)]}

        answer = client.post("/internal/workers/results", json=body, headers=WORKER)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert [status for status, _, _ in report(client, completed(a), failed(b))] == ["completed", "pending"]


def _unavailable(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable


# -- vectors, gzip -------------------------------------------------------------------------------------------


def test_vectors_are_served_as_the_reader_asks(client: FlaskClient, submit: Any) -> None:
    task = submit()
    claim(client)
    sent = vectors.encode(np.array([VECTOR], dtype=np.float16))
    answer = client.post(
        f"{CLAIM}/{task['id']}/result?encoding_format=base64",
        json={"status": "completed", "result": {"embeddings": sent}},
        headers=WORKER,
    )

    as_numbers = client.get(f"/v1/tasks/{task['id']}", headers=API).json
    as_bytes = client.get(f"/v1/tasks/{task['id']}?encoding_format=base64", headers=API).json
    listed = client.get("/v1/tasks?encoding_format=base64", headers=API).json["tasks"][0]
    wrong = client.get(f"/v1/tasks/{task['id']}?encoding_format=hex", headers=API)

    assert answer.json["result"]["embeddings"] == sent
    assert as_bytes["result"]["embeddings"] == listed["result"]["embeddings"] == sent
    assert as_numbers["result"]["embeddings"] == [np.float16(VECTOR).astype(float).tolist()]
    assert wrong.status_code == 422


def test_a_body_may_come_as_gzip(client: FlaskClient, submit: Any) -> None:
    task = submit()
    claim(client)
    body = {"worker_id": "kaggle-1", "results": [completed(task)]}

    answer = client.post(
        "/internal/workers/results",
        data=gzip.compress(json.dumps(body).encode()),
        headers={**WORKER, "Content-Encoding": "gzip"},
        content_type="application/json",
    )

    assert [one["status"] for one in answer.json["verdicts"]] == ["completed"]


def test_a_large_answer_goes_as_gzip_to_whoever_takes_it(client: FlaskClient, submit: Any) -> None:
    for n in range(20):
        submit(f"Подарочный набор рыболова номер {n}")
    asked = {"worker_id": "kaggle-1", "limit": 20, "claim_id": str(uuid.uuid4())}

    packed = client.get(CLAIM, query_string=asked, headers={**WORKER, "Accept-Encoding": "gzip, br"})
    plain = client.get(CLAIM, query_string=asked, headers=WORKER)
    refusing = client.get(CLAIM, query_string=asked, headers={**WORKER, "Accept-Encoding": "gzip;q=0"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in {**plain.headers, **refusing.headers}
    assert len(packed.data) * 4 < len(plain.data)
    unpacked = json.loads(gzip.decompress(packed.data))
    assert [task["id"] for task in unpacked["tasks"]] == [task["id"] for task in plain.json["tasks"]]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


def test_a_small_answer_goes_as_it_is(client: FlaskClient) -> None:
    answer = client.get(f"{CLAIM}?worker_id=w", headers={**WORKER, "Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in answer.headers


# -- back-pressure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "tasks?worker_id=w", None),
        ("POST", "heartbeat", {"worker_id": "w", "tasks": []}),
        ("POST", "release", {"worker_id": "w", "tasks": [], "reason": "drain"}),
        ("POST", "results", {"worker_id": "w", "results": [None]}),
    ],
)
def test_a_fleet_that_comes_all_at_once_is_told_when_to_come_back(
    client: FlaskClient, method: str, path: str, body: Any
) -> None:
    client.application.extensions["admission"]._places[Kind.WORKERS] = Places(0)

    answer = client.open(f"/internal/workers/{path}", method=method, json=body, headers=WORKER)
    user = client.post("/v1/embeddings", json={"input": "чай"}, headers=API)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert user.status_code == 200


def test_with_external_workers_switched_off_a_heartbeat_asks_to_drain(
    client: FlaskClient, core_with: Callable[..., Core], submit: Any
) -> None:
    off = LOCAL_LOGIC.read_text() + "features: {enable_external_workers: false}\n"
    switched_off = create_app(core_with(off)).test_client()
    submit()
    (task,) = claim(client, lease=60)["tasks"]

    beat = switched_off.post(
        "/internal/workers/heartbeat",
        json={"worker_id": "kaggle-1", "tasks": [{"id": task["id"], "attempt": 1}]},
        headers=WORKER,
    ).json

    assert (beat["drain"], beat["lost"]) == (True, [])


@pytest.mark.parametrize(
    "path",
    ["/internal/workers/tasks?worker_id=w", "/internal/scoring/tasks", "/api/v1/internal/categories/tasks"],
)
def test_a_head_claims_nothing(client: FlaskClient, core: Core, submit: Any, path: str) -> None:
    """A probe that asks whether the path is there must not take work away."""
    for body in (
        {},
        {"task_type": "score", "payload": {"products": [{"title": "чайник"}]}},
        {"task_type": "classify", "payload": {"external_names": ["Чай"]}},
    ):
        submit(**body)

    assert client.head(path, headers=WORKER).status_code == 405

    tasks, _ = core.store.page(EVERY_CLIENT, limit=10)
    assert [(task.status, task.attempt) for task in tasks] == [("pending", 0)] * 3
