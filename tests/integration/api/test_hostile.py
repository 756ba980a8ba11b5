"""Bad input: a 4xx in the contract's shape, never a 5xx, and nothing stored."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any
from uuid import UUID

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.core import Core
from tests.conftest import EVERY_CLIENT
from tests.integration.conftest import API, OPS, WORKER

TASK = {"task_type": "embedding", "payload": {"texts": ["a"]}}
DEEP: Any = {}
for _ in range(100):
    DEEP = {"a": DEEP}

BODIES = {
    "not JSON": (b"{", 400, "malformed_body"),
    "empty": (b"", 400, "malformed_body"),
    "wrong encoding": ('{"task_type": "чай"}'.encode("cp1251"), 400, "malformed_body"),
    "200 kB of brackets": (b"[" * 200_000, 400, "malformed_body"),
    "NaN": (b'{"task_type": "embedding", "payload": {"texts": ["a"], "x": NaN}}', 400, "malformed_body"),
    "a list": (b"[]", 422, "invalid_value"),
    "null": (b"null", 422, "invalid_value"),
    "over the limit": (b'"' + b"a" * 1_000_001 + b'"', 413, "too_large"),
    "lone surrogate": (
        json.dumps({"task_type": "embedding", "payload": {"texts": ["\ud800"]}}).encode(),
        422,
        "invalid_text",
    ),
    "NUL": (
        json.dumps({"task_type": "embedding", "payload": {"texts": ["a\x00b"]}}).encode(),
        422,
        "invalid_text",
    ),
    "NUL in a key": (json.dumps({**TASK, "metadata": {"a\x00": 1}}).encode(), 422, "invalid_text"),
    "metadata too deep": (json.dumps({**TASK, "metadata": DEEP}).encode(), 400, "too_deep"),
    "payload too deep": (json.dumps({"task_type": "embedding", "payload": DEEP}).encode(), 400, "too_deep"),
    "metadata too large": (
        json.dumps({**TASK, "metadata": {"a": "x" * 5000}}).encode(),
        422,
        "invalid_value",
    ),
    "unknown field": (json.dumps({**TASK, "eta": 5}).encode(), 422, "invalid_value"),
    "unknown task type": (json.dumps({**TASK, "task_type": "soup"}).encode(), 422, "unknown_task_type"),
    "score without products": (json.dumps({**TASK, "task_type": "score"}).encode(), 422, "invalid_value"),
    "llm without messages": (json.dumps({**TASK, "task_type": "llm"}).encode(), 422, "invalid_value"),
    "type of type": (json.dumps({**TASK, "task_type": 5}).encode(), 422, "invalid_value"),
    "true for a number": (json.dumps({**TASK, "max_attempts": True}).encode(), 422, "invalid_value"),
    "21 attempts": (json.dumps({**TASK, "max_attempts": 21}).encode(), 422, "invalid_value"),
    "no texts": (json.dumps({**TASK, "payload": {"texts": []}}).encode(), 422, "invalid_value"),
    "a text too long": (
        json.dumps({**TASK, "payload": {"texts": ["a" * 32_769]}}).encode(),
        422,
        "text_too_long",
    ),
    "an empty text": (json.dumps({**TASK, "payload": {"texts": [" "]}}).encode(), 422, "empty_text"),
    "2049 texts": (json.dumps({**TASK, "payload": {"texts": ["a"] * 2049}}).encode(), 422, "invalid_value"),
    "ids too few": (
        json.dumps({**TASK, "payload": {"texts": ["a", "b"], "ids": ["1"]}}).encode(),
        422,
        "invalid_value",
    ),
    "unknown model": (
        json.dumps({**TASK, "payload": {"texts": ["a"], "model": "x"}}).encode(),
        422,
        "unknown_model",
    ),
    "a callback": (json.dumps({**TASK, "callback_url": "http://127.0.0.1/"}).encode(), 422, "not_served"),
}


def assert_contract_shape(answer: Any) -> None:
    assert answer.mimetype == "application/json"
    assert set(answer.json["error"]) == {"type", "code", "message", "param", "request_id"}
    assert answer.json["error"]["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_and_leaves_nothing(client: FlaskClient, core: Core, name: str) -> None:
    body, status, code = BODIES[name]

    answer = client.post("/v1/tasks", data=body, headers=API, content_type="application/json")

    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert_contract_shape(answer)
    assert core.store.page(EVERY_CLIENT, limit=1) == ([], None)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/v1/classify/categories", "/v1/tasks"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": 5},
        {"input": [[1, 2]]},
        {"input": []},
        {"query": "q", "documents": "d"},
        {"query": "q", "documents": []},
        {"external_names": ["a"], "internal_categories": [{"id": 1.5, "name": "x"}]},
        {"external_names": [None]},
        {"input": "a", "model": 5},
        {"input": "a", "model": "x" * 10_000},
        {"input": "a", "timeout_ms": 10**30},
        {"input": "a", "timeout_ms": 70_000},
        {"input": "a", "dimensions": 12},
        {"input": "a", "encoding_format": "hex"},
    ],
)
def test_a_body_of_another_shape_is_422(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body, headers=API)

    assert answer.status_code == 422
    assert_contract_shape(answer)


@pytest.mark.parametrize(
    "task_id", ["1" * 30, "nonsense", "%00", "00000000-0000-0000-0000-000000000000", "{0}", "a" * 5000]
)
def test_an_unknown_id_is_404(client: FlaskClient, task_id: str) -> None:
    read = client.get(f"/v1/tasks/{task_id}", headers=API)
    result = client.post(
        f"/internal/workers/tasks/{task_id}/result", json={"status": "failed"}, headers=WORKER
    )

    assert (read.status_code, result.status_code) == (404, 404)
    assert_contract_shape(read)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic api-token"},
        {"Authorization": "Bearer internal-token"},
        {"X-Internal-Token": "internal-token"},
        {"Authorization": "Bearer \xff"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/00000000-0000-0000-0000-000000000000"])
def test_a_credential_of_elsewhere_is_401_and_says_nothing(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    answer = client.get(path, headers=headers)

    assert answer.status_code == 401
    assert "token" not in answer.json["error"]["message"]
    assert_contract_shape(answer)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "worker_id=",
        "worker_id=w&limit=0",
        "worker_id=w&limit=101",
        f"worker_id=w&limit={'9' * 30}",
        "worker_id=w&lease=5000",
        "worker_id=w&claim_id=x",
        "worker_id=w&worker_id=v",
        "worker_id=w&nonsense=1",
        "worker_id=a%00b",
        "worker_id=w&task_type=soup",
        "worker_id=w&id=5",
        "worker_id=w&session=%00",
        "worker_id=w&model=%00",
        "worker_id=w&space=%00",
        "worker_id=w&wait=31",
        "worker_id=w&wait=-1",
        "worker_id=w&wait=nan",
        "worker_id=w&wait=inf",
        "worker_id=w&max_tokens=0",
        f"worker_id=w&max_tokens={10**12}",
    ],
)
def test_a_claim_that_breaks_a_rule_is_422(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/internal/workers/tasks?{query}", headers=WORKER)

    assert answer.status_code == 422
    assert_contract_shape(answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("DELETE", "/v1/tasks", 405), ("GET", "/v1/embeddings", 405)],
)
def test_unknown_paths_and_methods_have_the_contracts_shape(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    answer = client.open(path, method=method, headers=API)

    assert answer.status_code == status
    assert_contract_shape(answer)


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "br"}],
)
def test_another_content_type_or_encoding_is_415(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/tasks", data=b"{}", headers={**API, **headers})

    assert answer.status_code == 415
    assert_contract_shape(answer)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "task_type=%00", "cursor=x", "status=lost", "wait=5", f"cursor={'9' * 40}", "batch_id=5"],
)
def test_a_list_that_breaks_a_rule_is_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/v1/tasks?{query}", headers=API).status_code == 422


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tasks/00000000-0000-0000-0000-000000000000/result", {"status": "failed", "attempt": 10**12}),
        ("heartbeat", {"worker_id": "w", "tasks": [{"id": str(UUID(int=0)), "attempt": 10**12}]}),
        ("release", {"worker_id": "w", "tasks": [{"id": str(UUID(int=0)), "attempt": 0}], "reason": "drain"}),
        ("heartbeat", {"worker_id": "w", "session": "a\x00", "tasks": []}),
        ("heartbeat", {"worker_id": "w", "tasks": [{"id": str(UUID(int=0)), "attempt": 1, "progress": 2}]}),
        ("heartbeat", {"worker_id": "w", "tasks": [{"id": str(UUID(int=0)), "attempt": 1}] * 1001}),
        ("heartbeat", {"worker_id": "w", "tasks": [], "exhaustive": "yes"}),
        ("heartbeat", {"worker_id": "w", "tasks": [], "info": {"gpu": "\x00"}}),
        ("heartbeat", {"worker_id": "w", "tasks": [], "info": "gpu"}),
        ("release", {"worker_id": "w", "tasks": [], "reason": "bored"}),
        ("release", {"worker_id": "w", "tasks": []}),
        ("results", {"worker_id": "w", "results": []}),
        ("results", {"worker_id": "w", "results": {}}),
        ("results", {"worker_id": "w", "results": [{}] * 1001}),
        ("results", {"results": [{}]}),
        ("results", {"worker_id": "w" * 201, "results": [{}]}),
    ],
)
def test_a_workers_body_that_breaks_a_rule_is_422(
    client: FlaskClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"/internal/workers/{path}", json=body, headers=WORKER)

    assert answer.status_code == 422
    assert_contract_shape(answer)


BOMB = gzip.compress(b" " * 200_000_000)
GZIPPED = {
    "a bomb of 200 MB": (BOMB, 413, "too_large"),
    "not gzip": (b"{}", 400, "malformed_body"),
    "cut off": (gzip.compress(b"{}")[:-3], 400, "malformed_body"),
    "nothing": (b"", 400, "malformed_body"),
    "a wrong checksum": (gzip.compress(b"{}")[:-8] + b"\0" * 8, 400, "malformed_body"),
    "something behind it": (gzip.compress(b"{}") + b"more", 400, "malformed_body"),
    "gzip in gzip": (gzip.compress(gzip.compress(b"{}")), 400, "malformed_body"),
    "many brackets": (gzip.compress(b"[" * 900_000), 413, "too_large"),
    "brackets": (gzip.compress(b"[" * 200_000), 400, "malformed_body"),
}


@pytest.mark.parametrize("name", GZIPPED)
@pytest.mark.parametrize("path", ["/v1/tasks", "/internal/workers/results", "/internal/workers/heartbeat"])
def test_a_hostile_gzip_body_is_refused(client: FlaskClient, path: str, name: str) -> None:
    body, status, code = GZIPPED[name]
    headers = {**(API if path.startswith("/v1") else WORKER), "Content-Encoding": "gzip"}

    answer = client.post(path, data=body, headers=headers, content_type="application/json")

    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert_contract_shape(answer) if path.startswith("/v1") else None


def test_results_over_the_limit_are_413_as_a_whole(client: FlaskClient) -> None:
    body = {"worker_id": "w", "results": [{"status": "failed", "error": "x" * 99_000}] * 11}

    answer = client.post("/internal/workers/results", json=body, headers=WORKER)

    assert (answer.status_code, answer.json["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"name": ""},
        {"name": "a b"},
        {"name": "-a"},
        {"name": "a\n"},
        {"name": "a" * 101},
        {"name": "a\x00"},
        {"name": "чай"},
        {"name": "a", "task_types": ["soup"]},
        {"name": "a", "task_types": "embedding"},
        {"name": "a", "task_types": ["embedding"] * 101},
        {"name": "a", "trust": "blind"},
        {"name": "a", "expires_in_days": 0},
        {"name": "a", "expires_in_days": 10**9},
        {"name": "a", "expires_in_days": 1.5},
        {"name": "a", "token": "gwt_mine"},
    ],
)
def test_a_token_that_breaks_a_rule_is_422_and_not_made(client: FlaskClient, core: Core, body: Any) -> None:
    answer = client.post("/ops/tokens", json=body, headers=OPS)

    assert answer.status_code == 422
    assert_contract_shape(answer)
    assert core.tokens.list() == []


@pytest.mark.parametrize("token_id", ["nonsense", "%00", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_token_cannot_be_revoked(client: FlaskClient, token_id: str) -> None:
    answer = client.post(f"/ops/tokens/{token_id}/revoke", headers=OPS)

    assert answer.status_code == 404
    assert_contract_shape(answer)


def test_a_token_of_the_workers_counts_beside_a_proxys_authorization(client: FlaskClient) -> None:
    headers = {**WORKER, "Authorization": "Bearer a-proxys-own"}

    assert client.get("/internal/workers/tasks?worker_id=w", headers=headers).status_code == 200


def test_a_text_that_the_local_model_would_hold_up_everybody_with_is_422(client: FlaskClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "слово " * 2000}, headers=API)

    assert (answer.status_code, answer.json["error"]["code"]) == (422, "text_too_long")
    assert "priority low" in answer.json["error"]["message"]


def test_a_chunked_body_over_the_limit_is_413_whatever_its_beginning_says(core: Core) -> None:
    server = make_server("127.0.0.1", 0, create_app(core), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    chunks = [b'{"input":"hi"', *[b" " * 100_000] * 11, b"}"]

    answer = requests.post(
        f"http://127.0.0.1:{server.server_port}/v1/embeddings",
        data=iter(chunks),
        headers={**API, "Content-Type": "application/json"},
        timeout=30,
    )

    server.shutdown()
    thread.join(10)
    server.server_close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_an_unknown_model_is_not_echoed_whole(client: FlaskClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "чай", "model": "m" * 100_000}, headers=API)

    assert answer.status_code == 422
    assert len(answer.data) < 1000


def test_a_query_of_many_parameters_is_refused_at_the_first(client: FlaskClient) -> None:
    """A kind of attack 3: an error was collected for each name."""
    many = "&".join(f"a{n}=" for n in range(20_000))
    ids = "&".join(["id=x"] * 150)

    refused = client.get(f"/v1/tasks?{many}", headers=API)
    unknown = client.get(f"/v1/tasks?{'k' * 1000}=1", headers=API)
    bad = client.get(f"/internal/workers/tasks?worker_id=w&{ids}", headers=WORKER)

    assert (refused.status_code, unknown.status_code, bad.status_code) == (422, 422, 422)
    assert "200 parameters" in refused.json["error"]["message"]
    assert unknown.json["error"]["param"] == "k" * 60
    assert bad.json["error"]["param"] == "id.0"


def test_an_accept_header_without_end_is_not_read(client: FlaskClient) -> None:
    body = b'{"task_type": "embedding", "payload": {"texts": ["a"]}}\n'
    batch = client.post("/v1/batches", data=body, headers=API, content_type="application/x-ndjson").json["id"]
    many = ",".join(["a/b"] * 10_000)

    answer = client.get(f"/v1/batches/{batch}/results", headers={**API, "Accept": many})
    listed = client.get("/v1/tasks", headers={**API, "Accept-Encoding": many})

    assert (answer.status_code, listed.status_code) == (406, 200)
