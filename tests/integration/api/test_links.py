"""The links of /openapi.json lead where they say: each is followed from a real answer."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient

from tests.integration.conftest import API, WORKER

LINE = json.dumps({"task_type": "embedding", "payload": {"texts": ["чай"]}})


def follow(client: FlaskClient, asked: str, answer: Any, headers: dict[str, str]) -> dict[str, int]:
    """The status behind each link of that operation's answer."""
    paths = client.get("/openapi.json").json["paths"]
    method, path = asked.split()
    links = paths[path][method.lower()]["responses"][str(answer.status_code)]["links"]
    by_id = {op["operationId"]: (m, p) for p, ops in paths.items() for m, op in ops.items()}
    statuses = {}
    for name, link in links.items():
        verb, template = by_id[link["operationId"]]
        target = template.format(**{key: found(answer, at) for key, at in link["parameters"].items()})
        body = {key: found(answer, at) for key, at in link.get("requestBody", {}).items()} or None
        statuses[name] = client.open(target, method=verb.upper(), json=body, headers=headers).status_code
    return statuses


def found(answer: Any, at: str) -> Any:
    """What a runtime expression of OpenAPI stands for."""
    if at.startswith("$response.body#/"):
        value = answer.json
        for step in at.removeprefix("$response.body#/").split("/"):
            value = value[int(step)] if isinstance(value, list) else value[step]
        return value
    if at.startswith("$request.query."):
        return answer.request.args[at.removeprefix("$request.query.")]
    return at


def test_the_links_of_a_submit_lead_to_its_task(client: FlaskClient) -> None:
    submitted = client.post("/v1/tasks", data=LINE, content_type="application/json", headers=API)

    assert follow(client, "POST /v1/tasks", submitted, API) == {
        "get_v_tasks_task_id": 200,
        "post_v_tasks_task_id_cancel": 200,
        "post_v_tasks_task_id_retry": 200,
    }


def test_the_links_of_a_batch_lead_to_its_parts(client: FlaskClient) -> None:
    submitted = client.post("/v1/batches", data=LINE, content_type="application/x-ndjson", headers=API)

    assert follow(client, "POST /v1/batches", submitted, API) == {
        "get_v_batches_batch_id": 200,
        "get_v_batches_batch_id_results": 200,
        "post_v_batches_batch_id_cancel": 200,
        "post_v_batches_batch_id_retry": 200,
    }


def test_the_link_of_a_claim_reports_its_first_task(client: FlaskClient) -> None:
    client.post("/v1/tasks", data=LINE, content_type="application/json", headers=API)
    claimed = client.get("/internal/workers/tasks?worker_id=w", headers=WORKER)

    assert follow(client, "GET /internal/workers/tasks", claimed, WORKER) == {
        "post_internal_workers_tasks_task_id_result": 200
    }
