"""Two poll workers, a Celery worker and a RunPod handler share one queue; Flower shows all four."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from tests.chaos.fleet import scaled
from tests.e2e.service import Service, eventually, service
from tests.judges.upstream import free_port, upstream

TASKS = scaled(400, 5_000)
SECONDS = 120 + TASKS / 10
WORDS = ("чайник", "кофемолка", "плед", "удочка", "самовар", "гитара", "рюкзак", "термос")
LOGIC = """
llm: {embedding_provider: local, model_embedding: multilingual-e5-small}
rerank: {model: multilingual-e5-small, providers: [local]}
classify: {model: multilingual-e5-small, providers: [local]}
"""
TREE = [{"id": 1, "name": "Кухня"}, {"id": 2, "name": "Отдых"}, {"id": 3, "name": "Дом"}]

pytestmark = pytest.mark.timeout(2 * SECONDS + 300)


@contextmanager
def handler(running: Service, folder: Path) -> Iterator[str]:
    """The serverless handler of the kit in RunPod's own program, with a token of the service's."""
    port, log = free_port(), folder / "handler.log"
    where = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
    environ = {
        "GIFTY_COMPUTE_URL": running.run["api_url"],
        "GIFTY_WORKER_TOKEN": running.run["internal_token"],
        "RUNPOD_POD_ID": "",
    }
    kept = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        with upstream([sys.executable, "-m", "workers.runpod.handler", *where], port, log):
            yield f"http://127.0.0.1:{port}"
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def mixed(number: int) -> dict[str, Any]:
    """A task of one of three kinds, none like another."""
    words = [f"{WORDS[(number + n) % len(WORDS)]} {number}-{n}" for n in range(1 + number % 5)]
    match number % 3:
        case 0:
            return {"task_type": "embedding", "payload": {"texts": words}}
        case 1:
            return {"task_type": "rerank", "payload": {"query": "подарок", "documents": words}}
    payload = {"external_names": words, "internal_categories": TREE}
    return {"task_type": "classify", "payload": payload}


def flower(running: Service, path: str) -> Any:
    auth = tuple(running.run["flower_auth"].split(":", 1))
    return requests.get(running.run["flower_url"] + path, auth=auth, timeout=20).json()


def online(running: Service) -> set[str]:
    """Whom Flower shows as being there."""
    return {node for node, is_on in flower(running, "/api/workers?status=1").items() if is_on}


def succeeded(running: Service, workers: Iterable[str]) -> dict[str, int]:
    """How many tasks each of these poll workers has done, by Flower."""
    table = {row["hostname"]: row for row in flower(running, "/workers?json=1")["data"]}
    return {worker: table[f"{worker}@pull"].get("task-succeeded", 0) for worker in workers}


def test_four_kinds_of_workers_do_mixed_tasks_each_once_and_flower_sees_all(tmp_path: Path) -> None:
    up = service(tmp_path, "--poll-workers", "2", logic=LOGIC)
    with up as running, handler(running, tmp_path) as endpoint, ThreadPoolExecutor(1) as threads:
        job = {"input": {"shift": {"seconds": SECONDS, "idle_seconds": 20}}}
        shift = threads.submit(requests.post, f"{endpoint}/runsync", json=job, timeout=SECONDS + 60)
        eventually(lambda: len(online(running)) == 4, within=60, what="all four are there")
        lines = "\n".join(json.dumps(mixed(number)) for number in range(TASKS)).encode()
        headers = {"Content-Type": "application/x-ndjson"}

        batch = running.call("POST", "/v1/batches", data=lines, headers=headers).json()
        eventually(lambda: finished(running, batch["id"]), within=SECONDS, what="the batch is done")

        seen = online(running)
        rows = ended(running)
        done = Counter(worker for *_, worker in rows)
        print(dict(done))
        assert len(rows) == TASKS
        assert [row for row in rows if row[:3] != ("completed", 1, 0)] == []
        assert Counter(worker.partition("-")[0] for worker in done) == {"celery": 1, "poll": 2, "runpod": 1}
        assert {worker if "@" in worker else f"{worker}@pull" for worker in done} == seen
        by_poll = {worker: count for worker, count in done.items() if "@" not in worker}
        # Flower hears of the last ends a moment after the batch is done.
        eventually(
            lambda: succeeded(running, by_poll) == by_poll, within=60, what="Flower has counted every task"
        )
        table = {row["hostname"]: row for row in flower(running, "/workers?json=1")["data"]}
        polls = {worker: table[f"{worker}@pull"] for worker in by_poll}
        assert not any("task-failed" in row for row in polls.values())
        ended_shift = shift.result(SECONDS).json()
        [runpod] = [worker for worker in done if worker.startswith("runpod-")]
        assert (ended_shift["status"], ended_shift["output"]["done"]) == ("COMPLETED", done[runpod])


def finished(running: Service, batch_id: str) -> bool:
    batch = running.call("GET", f"/v1/batches/{batch_id}", params={"wait": 5}).json()
    return batch["finished_at"] is not None


def ended(running: Service) -> list[tuple[str, int, int, str]]:
    """What became of each task, from the database itself."""
    connection = psycopg2.connect(running.run["database_url"])
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT status, attempt, failures, worker_id FROM compute_tasks")
        rows = cursor.fetchall()
    connection.close()
    return rows
