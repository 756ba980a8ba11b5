"""Task types of logic.yaml on their whole way: submitted, claimed by who names them, ended, read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from tests.integration.conftest import API, OPS, WORKER

LOGIC = """
task_types:
  ocr:
    model: tesseract-5
    result_schema: {type: object, required: [words], properties: {words: {type: array}}}
"""
PAYLOAD = {"url": "https://shop.example/1.png", "model": "anything"}


@pytest.fixture
def declared(core_with: Callable[..., Core]) -> FlaskClient:
    return create_app(core_with(LOGIC)).test_client()


def submit(client: FlaskClient, task_type: str = "ocr") -> Any:
    return client.post("/v1/tasks", json={"task_type": task_type, "payload": PAYLOAD}, headers=API)


def claim(client: FlaskClient, headers: dict[str, str] = WORKER, **query: Any) -> Any:
    query = {"worker_id": "w", **query}
    return client.get("/internal/workers/tasks", query_string=query, headers=headers)


def report(client: FlaskClient, task: Any, result: Any) -> Any:
    body = {"status": "completed", "result": result, "attempt": task["attempt"], "worker_id": "w"}
    return client.post(f"/internal/workers/tasks/{task['id']}/result", json=body, headers=WORKER)


def test_a_declared_type_goes_all_the_way_with_its_payload_untouched(declared: FlaskClient) -> None:
    submitted = submit(declared)
    assert submitted.status_code == 202
    assert submitted.json["model"] == "tesseract-5"
    assert claim(declared).json["count"] == 0  # who does not name it cannot do it

    [task] = claim(declared, task_type="ocr", lease=60).json["tasks"]

    assert task["payload"] == PAYLOAD
    result = {"words": ["чай"], "embeddings": "a word of its own"}
    assert report(declared, task, result).status_code == 200
    assert report(declared, task, result).status_code == 200  # a retry after a lost answer
    path = f"/v1/tasks/{task['id']}"
    assert declared.get(path, headers=API).json["result"] == result
    assert declared.get(f"{path}?encoding_format=base64", headers=API).json["result"] == result


def test_a_result_that_breaks_the_declared_schema_is_422_and_stays_with_its_holder(
    declared: FlaskClient,
) -> None:
    submit(declared)
    [task] = claim(declared, task_type="ocr", lease=60).json["tasks"]

    refused = report(declared, task, {"letters": "канарейка"})

    assert (refused.status_code, refused.json["error"]["param"]) == (422, "result")
    assert "канарейка" not in refused.text
    assert report(declared, task, {"words": []}).status_code == 200


def test_a_batch_may_mix_declared_types_with_others(declared: FlaskClient) -> None:
    lines = [
        {"task_type": "ocr", "payload": PAYLOAD},
        {"task_type": "embedding", "payload": {"texts": ["чай"]}},
    ]
    body = "\n".join(map(json.dumps, lines))

    batch = declared.post("/v1/batches", data=body, content_type="application/x-ndjson", headers=API).json

    [task] = claim(declared, task_type="ocr", lease=60).json["tasks"]
    assert report(declared, task, {"words": []}).status_code == 200
    assert declared.get(f"/v1/batches/{batch['id']}", headers=API).json["counts"]["completed"] == 1


@pytest.mark.parametrize("task_type", ["ocr2", "OCR", "maintain", "ocr\u0000"])
def test_a_type_that_is_not_declared_stays_refused(declared: FlaskClient, task_type: str) -> None:
    assert submit(declared, task_type).status_code == 422
    assert claim(declared, task_type=task_type).status_code == 422


def test_a_worker_token_can_be_scoped_to_a_declared_type(declared: FlaskClient) -> None:
    body = {"name": "ocr-1", "task_types": ["ocr"]}
    token = declared.post("/ops/tokens", json=body, headers=OPS).json["token"]
    submit(declared)

    own = {"Authorization": f"Bearer {token}"}

    assert claim(declared, own, lease=60).json["count"] == 1
    assert claim(declared, own, task_type="embedding").status_code == 401
