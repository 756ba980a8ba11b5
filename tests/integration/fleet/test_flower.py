"""Flower's own API shows poll workers: who they are, what they do, and that they have gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from gifty_compute.wire import vectors
from tests.e2e.service import eventually
from tests.integration.conftest import WORKER
from tests.integration.fleet.conftest import Flower

CANARY = "канарейка-9b1c"
GPU = {"gpu": "Tesla T4", "model": "multilingual-e5-small", "program": "gifty-worker", "version": "0.1.0"}
VECTOR = np.arange(1, 385, dtype=np.float32)


@pytest.fixture
def node(request: pytest.FixtureRequest) -> str:
    """A name of the test's own: Flower forgets nobody."""
    return f"kaggle-{abs(hash(request.node.name)) % 10**8}"


def call(client: FlaskClient, method: str, path: str, **body: Any) -> Any:
    answer = client.open(f"/internal/workers{path}", method=method, headers=WORKER, **body)
    assert answer.status_code == 200, answer.json
    return answer.json


def claim(client: FlaskClient, node: str, **query: Any) -> list[Any]:
    found = call(client, "GET", "/tasks", query_string={"worker_id": node, "lease": 60, **query})
    tasks: list[Any] = found["tasks"]
    return tasks


def beat(client: FlaskClient, node: str, *tasks: Any, info: Any = None, **more: Any) -> None:
    held = [{"id": task["id"], "attempt": task["attempt"]} for task in tasks]
    call(client, "POST", "/heartbeat", json={"worker_id": node, "tasks": held, "info": info, **more})


def report(client: FlaskClient, node: str, *outcomes: dict[str, Any]) -> None:
    call(client, "POST", "/results", json={"worker_id": node, "results": list(outcomes)})


def completed(task: Any) -> dict[str, Any]:
    result = {"embeddings": vectors.encode(np.array([VECTOR]))}
    return {"id": task["id"], "attempt": task["attempt"], "status": "completed", "result": result}


def failed(task: Any) -> dict[str, Any]:
    return {"id": task["id"], "attempt": task["attempt"], "status": "failed", "error": f"bad: {CANARY}"}


def test_flower_shows_a_poll_worker_with_its_model_and_gpu(
    client: FlaskClient, flower: Flower, submit: Any, node: str
) -> None:
    submit("чайник")
    tasks = claim(client, node)

    beat(client, node, *tasks, info=GPU, exhaustive=True)

    at = f"{node}@pull"
    eventually(lambda: flower.is_online(at), within=30, what="Flower shows the worker online")
    row = eventually(
        lambda: (flower.row(at) or {}).get("sw_sys") and flower.row(at), within=30, what="its row"
    )
    assert row["sw_ident"] == "gifty-worker"
    assert row["sw_sys"] == "multilingual-e5-small on Tesla T4"
    assert row["active"] == 1
    # The page of one worker is made of what Flower asks it.
    found = flower.get(f"/api/workers?refresh=1&workername={at}")
    assert found[at]["stats"]["gpu"] == "Tesla T4"
    page = flower.page(f"/worker/{at}")
    assert "Tesla T4" in page
    assert "multilingual-e5-small" in page


def test_flower_shows_how_each_task_of_a_poll_worker_ended_and_no_payload(
    client: FlaskClient, flower: Flower, submit: Any, node: str
) -> None:
    submit(CANARY), submit(CANARY), submit(CANARY)
    good, bad, single = claim(client, node)

    report(client, node, completed(good), failed(bad))
    call(
        client, "POST", f"/tasks/{single['id']}/result", json={"worker_id": node, **_alone(completed(single))}
    )

    def ended() -> Any:
        infos = [flower.get(f"/api/task/info/{task['id']}") for task in (good, bad, single)]
        return all(info and info["state"] in ("SUCCESS", "FAILURE") for info in infos) and infos

    infos = eventually(ended, within=30, what="Flower knows the ends")
    assert [info["state"] for info in infos] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert {info["worker"] for info in infos} == {f"{node}@pull"}
    assert {info["name"] for info in infos} == {"gifty.embedding"}
    assert all(info["runtime"] >= 0 and info["received"] and info["started"] for info in infos)
    assert CANARY not in str(infos)
    row = flower.row(f"{node}@pull")
    assert (row["task-received"], row["task-succeeded"], row["task-failed"]) == (3, 2, 1)
    assert set(flower.get(f"/api/tasks?workername={node}@pull")) == {t["id"] for t in (good, bad, single)}


def _alone(outcome: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != "id"}


def test_a_poll_worker_that_falls_silent_goes_offline_and_one_that_speaks_stays(
    client: FlaskClient, flower: Flower, submit: Any, node: str
) -> None:
    claim(client, node)
    claim(client, f"{node}-alive")
    for one in (node, f"{node}-alive"):
        eventually(lambda one=one: flower.is_online(f"{one}@pull"), within=30, what=f"{one} is online")

    def silent_one_is_gone() -> bool:
        claim(client, f"{node}-alive")
        return flower.is_online(f"{node}@pull") is False

    eventually(silent_one_is_gone, within=30, what="the silent worker is offline")

    assert flower.is_online(f"{node}-alive@pull") is True


def test_a_worker_that_speaks_again_is_online_again(client: FlaskClient, flower: Flower, node: str) -> None:
    claim(client, node)
    eventually(lambda: flower.is_online(f"{node}@pull"), within=30, what="it is online")
    eventually(lambda: flower.is_online(f"{node}@pull") is False, within=30, what="it is offline")

    claim(client, node)

    eventually(lambda: flower.is_online(f"{node}@pull"), within=30, what="it is online again")
