"""The life of a task, as operators see it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import Held, Holder, SubmitRequest, Want
from tests.integration.conftest import API

HOME = Holder(worker_id="home", session="1", credential="shared")
OPS = {"Authorization": "Bearer ops-token"}


def client_of(core: Core) -> FlaskClient:
    return create_app(core).test_client()


def test_a_timeline_names_each_attempt_and_shows_no_payload(core_with: Callable[..., Core]) -> None:
    core = core_with(ops_tokens="ann:viewer:ops-token")
    http = client_of(core)
    request = SubmitRequest(task_type="embedding", payload={"texts": ["тайна"], "model": "bge-m3"})
    submitted, _ = core.store.submit(request, Origin(client="shop"))
    for _ in range(2):
        [held] = core.leases.claim(HOME, Want(models=("bge-m3",), limit=1, claim_id=uuid4())).tasks
        core.leases.release(HOME, [Held(id=held.id, attempt=held.attempt)], "oom")

    answer = http.get(f"/ops/tasks/{submitted.id}", headers=OPS)

    assert answer.status_code == 200, answer.get_json()
    shown = answer.get_json()
    assert (shown["status"], shown["attempt"], shown["client"], shown["generation"]) == (
        "pending",
        2,
        "shop",
        1,
    )
    ends = [(one["attempt"], one["worker_id"], one["credential"], one["end"]) for one in shown["history"]]
    assert ends == [(1, "home", "shared", "oom"), (2, "home", "shared", "oom")]
    assert "тайна" not in answer.get_data(as_text=True)


def test_a_timeline_is_for_operators_and_of_tasks_that_exist(core_with: Callable[..., Core]) -> None:
    http = client_of(core_with(ops_tokens="ann:viewer:ops-token"))

    assert http.get(f"/ops/tasks/{uuid4()}", headers=OPS).status_code == 404
    assert http.get("/ops/tasks/none", headers=OPS).status_code == 404
    assert http.get(f"/ops/tasks/{uuid4()}", headers=API).status_code == 401
