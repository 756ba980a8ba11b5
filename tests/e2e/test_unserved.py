"""Friction 1 by a real `up`: one provider key, and low-priority work that the packaged workers cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.service import Service, eventually, service

KEYS = {
    "OPENROUTER_API_KEY": "sk-or-fake",
    "LOGIC_CONFIG_PATH": "",
    "OPENROUTER_API_BASE": "http://127.0.0.1:9",
}
REASON = "no worker for embedding/bge-m3"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Started as a stranger does, with a key in the environment."""
    with service(tmp_path_factory.mktemp("unserved"), env=KEYS) as running:
        yield running


def ready(up: Service) -> Any:
    return up.call("GET", "/readyz").json()


def test_the_start_says_which_file_is_in_force_and_which_work_no_worker_here_does(up: Service) -> None:
    said = [line.rstrip("\n") for line in up.lines]

    assert "OPENROUTER_API_KEY is set: configs/logic.yaml is in force." in said
    [missing] = [line for line in said if "embedding/bge-m3" in line]
    assert missing.startswith("No worker here for embedding/bge-m3, rerank/bge-reranker-v2-m3, classify/")
    assert "pip install 'gifty-compute[worker,torch]'" in missing
    assert "LOGIC_CONFIG_PATH=configs/logic.local.yaml" in missing


def test_such_work_is_told_by_the_task_and_by_readyz_until_a_worker_for_it_comes(up: Service) -> None:
    task_id = up.submit("чайник")
    eventually(lambda: up.task(task_id)["waiting_for"] == REASON, within=30, what="the task says why")
    told = eventually(
        lambda: "reasons" in (answer := ready(up)) and answer, within=60, what="/readyz says why"
    )
    assert told == {"status": "degraded", "parts": ["workers"], "reasons": [f"{REASON} (1 wait)"]}

    # A bare worker of the right model: it claims, and hands in a vector of 1024 numbers.
    [claimed] = up.call("GET", "/internal/workers/tasks?worker_id=gpu-1&model=bge-m3").json()["tasks"]
    result = {"status": "completed", "attempt": 1, "result": {"embeddings": [[1.0] + [0.0] * 1023]}}
    up.call("POST", f"/internal/workers/tasks/{claimed['id']}/result", json=result)

    assert up.task(task_id)["status"] == "completed"
    eventually(lambda: ready(up) == {"status": "ok"}, within=30, what="/readyz is ok")
    later = eventually(
        lambda: (task := up.task(up.submit("самовар")))["waiting_for"] is None and task,
        within=30,
        what="the next waits for its turn alone",
    )
    assert later["status"] == "pending"


def test_work_for_the_model_that_the_workers_do_have_is_done(up: Service) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["чай"], "model": "multilingual-e5-small"}}

    task_id = up.call("POST", "/v1/tasks", json=body).json()["id"]

    up.all_done([task_id], within=60)
