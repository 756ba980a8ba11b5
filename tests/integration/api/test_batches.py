"""Batches over HTTP: submitted, watched, cancelled, tried again; and what is refused."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from api.admission import Kind
from gifty_compute.core import Core, build
from gifty_compute.settings import Settings
from tests.conftest import EVERY_CLIENT
from tests.integration.conftest import API
from tests.integration.queue.batches import WORKER, body, claim, complete, line

LINES = {**API, "Content-Type": "application/x-ndjson"}


def post(client: FlaskClient, data: bytes, query: str = "", **headers: str) -> Any:
    return client.post(f"/v1/batches?{query}", data=data, headers={**LINES, **headers})


def test_a_batch_is_accepted_announced_watched_and_done(client: FlaskClient, core: Core) -> None:
    answer = post(client, body(3))

    batch = answer.json
    path = answer.headers["Location"]
    complete(core.leases, claim(core.leases))
    core.maintainer.run_pass()
    done = client.get(path, headers=API).json
    assert answer.status_code == 202
    assert path == f"/v1/batches/{batch['id']}"
    assert (batch["total"], batch["counts"]["pending"], batch["finished_at"]) == (3, 3, None)
    assert done["counts"] == {"pending": 0, "processing": 0, "completed": 3, "failed": 0, "cancelled": 0}
    assert done["finished_at"].endswith("Z")
    assert set(done) == {
        *("id", "total", "counts", "rate", "eta", "generation", "created_at", "finished_at"),
        *("cancel_requested_at", "retry_requested_at", "finish_by", "max_cost", "cost_usd", "plan"),
    }


def test_celery_is_told_of_a_batch_in_few_messages(client: FlaskClient, core: Core) -> None:
    queue = "embedding.multilingual-e5-small"
    with core.announcer._app.connection_for_write() as broker:
        broker.default_channel.queue_purge(queue)
        post(client, body(1000))

        waiting = broker.default_channel.queue_declare(queue, passive=True).message_count

        broker.default_channel.queue_purge(queue)
    assert waiting == 16


def test_gzip_is_taken_and_the_key_is_of_what_it_holds(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "catalogue-7"}

    packed = post(client, gzip.compress(body(3)), **{"Content-Encoding": "gzip"}, **key)
    plain = post(client, body(3), **key)
    other = post(client, body(4), **key)
    options = post(client, body(3), "max_cost=1", **key)

    assert (packed.status_code, plain.status_code) == (202, 200)
    assert plain.json["id"] == packed.json["id"]
    for answer in (other, options):
        assert (answer.status_code, answer.json["error"]["code"]) == (409, "idempotency_conflict")


def test_tasks_are_listed_by_their_batch(client: FlaskClient) -> None:
    batch = post(client, body(3)).json
    post(client, body(2))

    listed = client.get(f"/v1/tasks?batch_id={batch['id']}", headers=API).json["tasks"]

    assert [task["metadata"]["n"] for task in listed] == [2, 1, 0]
    assert {task["batch_id"] for task in listed} == {batch["id"]}


def test_waiting_ends_with_the_batch(client: FlaskClient, core: Core) -> None:
    path = post(client, body(2)).headers["Location"]
    answers: list[Any] = []
    other = client.application.test_client()
    waiting = threading.Thread(target=lambda: answers.append(other.get(f"{path}?wait=30", headers=API).json))

    waiting.start()
    complete(core.leases, claim(core.leases))
    core.maintainer.run_pass()
    waiting.join(25)

    assert answers[0]["finished_at"] is not None


def test_cancel_and_retry_answer_with_the_batch(client: FlaskClient, core: Core) -> None:
    path = post(client, body(3)).headers["Location"]

    cancelled = client.post(f"{path}/cancel", headers=API)
    core.maintainer.run_pass()
    retried = client.post(f"{path}/retry", headers=API)
    complete(core.leases, claim(core.leases))
    core.maintainer.run_pass()
    nothing = client.post(f"{path}/retry", headers=API)
    too_late = client.post(f"{path}/cancel", headers=API)

    assert (cancelled.status_code, cancelled.json["counts"]["cancelled"]) == (200, 3)
    assert (retried.status_code, retried.json["counts"]["pending"], retried.json["generation"]) == (200, 3, 2)
    for answer in (nothing, too_late):
        assert (answer.status_code, answer.json["error"]["type"]) == (409, "conflict_error")


def _packed(data: bytes) -> dict[str, Any]:
    return {"data": gzip.compress(data), "Content-Encoding": "gzip"}


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "not JSON": ({"data": line("a") + b"{\n"}, 400, "malformed_body"),
    "wrong encoding": ({"data": '{"task_type": "чай"}'.encode("cp1251")}, 400, "malformed_body"),
    "a list": ({"data": b"[]"}, 422, "invalid_value"),
    "empty": ({"data": b""}, 422, "invalid_value"),
    "NUL": ({"data": line("a\0")}, 422, "invalid_text"),
    "lone surrogate": ({"data": line("a").replace(b'"a"', b'"\\ud800"')}, 422, "invalid_text"),
    "too deep": ({"data": line("a", metadata=json.loads('{"a":' * 99 + "1" + "}" * 99))}, 400, "too_deep"),
    "unknown model": (
        {"data": b'{"task_type":"embedding","payload":{"texts":["a"],"model":"x"}}'},
        422,
        "unknown_model",
    ),
    "a line over the limit": ({"data": b"a" * 1_000_001}, 413, "too_large"),
    "gzip over the limit": (_packed((b" " * 9999 + b"\n") * 600), 413, "too_large"),
    "a bomb": (_packed(b"0" * 30_000_000), 413, "too_large"),
    "gzip cut short": (
        {"data": gzip.compress(body(9))[:-5], "Content-Encoding": "gzip"},
        400,
        "malformed_body",
    ),
    "no gzip": ({"data": body(1), "Content-Encoding": "gzip"}, 400, "malformed_body"),
    "another encoding": ({"data": body(1), "Content-Encoding": "br"}, 415, "unsupported_media"),
    "another type": ({"data": body(1), "Content-Type": "application/json"}, 415, "unsupported_media"),
    "a callback in a line": ({"data": line("a", callback_url="https://a.example/")}, 422, "not_served"),
    "a callback": ({"data": body(1), "query": "callback_url=https://a.example/"}, 422, "not_served"),
    "a past end": ({"data": body(1), "query": "finish_by=2020-01-01T00:00:00Z"}, 422, "invalid_value"),
    "no time": ({"data": body(1), "query": "finish_by=1900000000"}, 422, "invalid_value"),
    "no zone": ({"data": body(1), "query": "finish_by=2999-01-01T00:00:00"}, 422, "invalid_value"),
    "a negative cost": ({"data": body(1), "query": "max_cost=-1"}, 422, "invalid_value"),
    "no cost": ({"data": body(1), "query": "max_cost=nan"}, 422, "invalid_value"),
    "unknown query": ({"data": body(1), "query": "eta=5"}, 422, "invalid_value"),
    "a long key": ({"data": body(1), "Idempotency-Key": "k" * 256}, 422, "invalid_value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_refused_and_nothing_is_stored(
    client: FlaskClient, core: Core, name: str
) -> None:
    request, status, code = REFUSED[name]

    answer = post(client, **request)

    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert set(answer.json["error"]) == {"type", "code", "message", "param", "request_id"}
    assert core.store.page(EVERY_CLIENT, limit=1) == ([], None)


def test_the_message_names_the_line_and_does_not_quote_it(client: FlaskClient) -> None:
    answer = post(client, line("a") + line("канарейка", extra="канарейка"))

    assert answer.json["error"]["message"].startswith("line 2: extra")
    assert answer.json["error"]["param"] == "extra"
    assert "канарейка" not in answer.text


def test_a_body_larger_than_other_paths_take_is_read(settings: Settings, core: Core) -> None:
    data = b"".join(line("а" * 900 + f" {n}") for n in range(1000))
    answer = post(create_app(core).test_client(), data)

    assert len(data) > settings.max_body_bytes
    assert answer.status_code == 202


def test_uploads_leave_threads_for_others(client: FlaskClient, core: Core) -> None:
    admission = client.application.extensions["admission"]
    while admission.try_enter(Kind.UPLOADS, "backend"):
        pass

    answer = post(client, body(1))
    task = client.post("/v1/tasks", json=json.loads(line("чай")), headers=API)

    assert task.status_code == 202
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("verb", ["", "/results"])
@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-0000-0000-000000000000", "%00"])
def test_an_unknown_batch_is_404(client: FlaskClient, verb: str, name: str) -> None:
    assert client.get(f"/v1/batches/{name}{verb}", headers=API).status_code == 404


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_unknown_batch_can_be_neither_cancelled_nor_retried(client: FlaskClient, verb: str) -> None:
    path = f"/v1/batches/00000000-0000-0000-0000-000000000000/{verb}"

    assert client.post(path, headers=API).status_code == 404


def test_the_document_says_what_a_line_is(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").json["paths"]

    sent = paths["/v1/batches"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    read = paths["/v1/batches/{batch_id}/results"]["get"]["responses"]["200"]["content"]
    names = {parameter["name"] for parameter in paths["/v1/batches"]["post"]["parameters"]}
    assert sent["x-itemSchema"] == {"$ref": "#/components/schemas/SubmitRequest"}
    assert read["application/x-ndjson"]["x-itemSchema"] == {"$ref": "#/components/schemas/BatchResult"}
    assert set(read) == {"application/x-ndjson", "application/vnd.apache.parquet", "application/x-npy"}
    assert {"callback_url", "finish_by", "max_cost", "Idempotency-Key", "Content-Encoding"} <= names


def test_a_failed_task_of_a_batch_is_retried_by_the_batch(client: FlaskClient, core: Core) -> None:
    path = post(client, body(2)).headers["Location"]
    first, second = claim(core.leases)
    core.leases.fail(WORKER, first, "no", retryable=False)
    complete(core.leases, [second])
    core.maintainer.run_pass()

    answer = client.post(f"{path}/retry", headers=API)

    assert (answer.status_code, answer.json["counts"]["pending"], answer.json["finished_at"]) == (
        200,
        1,
        None,
    )


def test_another_process_sees_the_same_batch(client: FlaskClient, core: Core, settings: Settings) -> None:
    path = post(client, body(2)).headers["Location"]
    other = build(settings, core.announcer._app)

    seen = create_app(other).test_client().get(path, headers=API)

    other.close()
    assert seen.json["total"] == 2
