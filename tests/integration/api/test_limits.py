"""What one client may ask for: tasks that wait, and requests a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from tests.conftest import EVERY_CLIENT, LOCAL_LOGIC
from tests.integration.conftest import API, WORKER

OTHER = {"Authorization": "Bearer jobs-token"}
TASK = {"task_type": "embedding", "payload": {"texts": ["чайник"]}}


@pytest.fixture
def limited(core_with: Callable[..., Core]) -> Callable[[str], FlaskClient]:
    def make(limits: str) -> FlaskClient:
        return create_app(core_with(LOCAL_LOGIC.read_text() + f"limits: {{{limits}}}\n")).test_client()

    return make


def submit(client: FlaskClient, headers: dict[str, str] = API, **more: str) -> Any:
    return client.post("/v1/tasks", json=TASK, headers={**headers, **more})


def test_a_client_whose_queue_is_full_is_told_when_to_come_back(
    limited: Callable[[str], FlaskClient], core: Core
) -> None:
    client = limited("queue_depth: 2")
    taken = [submit(client).status_code for _ in range(2)]

    refused = submit(client)
    low = client.post("/v1/embeddings", json={"input": "чай", "priority": "low"}, headers=API)
    high = client.post("/v1/embeddings", json={"input": "чай"}, headers=API)

    assert taken == [202, 202]
    assert refused.status_code == low.status_code == 429
    assert (refused.json["error"]["type"], refused.json["error"]["code"]) == (
        "rate_limit_error",
        "over_limit",
    )
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert high.status_code == 200
    assert submit(client, OTHER).status_code == 202
    assert len(core.store.page(EVERY_CLIENT, limit=10)[0]) == 3


def test_a_batch_is_refused_while_the_queue_is_full(
    limited: Callable[[str], FlaskClient], core: Core
) -> None:
    client = limited("queue_depth: 2")
    lines = b'{"task_type": "embedding", "payload": {"texts": ["a"]}}\n' * 3

    def send() -> int:
        return client.post(
            "/v1/batches", data=lines, headers=API, content_type="application/x-ndjson"
        ).status_code

    first, second = send(), send()

    assert (first, second) == (202, 429)
    assert submit(client).status_code == 429
    assert len(core.store.page(EVERY_CLIENT, limit=10)[0]) == 3


def test_a_repeated_submit_finds_its_task_in_a_full_queue(limited: Callable[[str], FlaskClient]) -> None:
    client = limited("queue_depth: 1")

    first = submit(client, **{"Idempotency-Key": "order-1"})
    again = submit(client, **{"Idempotency-Key": "order-1"})
    new = submit(client, **{"Idempotency-Key": "order-2"})

    assert (first.status_code, again.status_code, new.status_code) == (202, 200, 429)
    assert again.json["id"] == first.json["id"]


def test_a_repeated_batch_is_found_in_a_full_queue(limited: Callable[[str], FlaskClient]) -> None:
    client = limited("queue_depth: 1")
    arguments: dict[str, Any] = {
        "data": b'{"task_type": "embedding", "payload": {"texts": ["a"]}}\n',
        "headers": {**API, "Idempotency-Key": "catalogue"},
        "content_type": "application/x-ndjson",
    }

    answers = [client.post("/v1/batches", **arguments).status_code for _ in range(2)]

    assert answers == [202, 200]


def test_requests_past_the_minutes_limit_are_429_for_that_client_alone(
    limited: Callable[[str], FlaskClient],
) -> None:
    client = limited("requests_per_minute: 3")

    # Seven, since a minute may end in between.
    statuses = [client.get("/v1/tasks", headers=API) for _ in range(7)]

    refused = [answer for answer in statuses if answer.status_code == 429]
    assert statuses[0].status_code == 200
    assert refused
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert client.get("/v1/tasks", headers=OTHER).status_code == 200
    assert client.get("/internal/workers/tasks?worker_id=w", headers=WORKER).status_code == 200


def test_a_wrong_credential_uses_up_nobodys_requests(limited: Callable[[str], FlaskClient]) -> None:
    client = limited("requests_per_minute: 1")

    wrong = [client.get("/v1/tasks", headers={"Authorization": "Bearer no"}) for _ in range(5)]

    assert {answer.status_code for answer in wrong} == {401}
    assert client.get("/v1/tasks", headers=API).status_code == 200
