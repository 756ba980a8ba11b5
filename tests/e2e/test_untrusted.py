"""A stranger's worker turns to noise after 50 honest results, against the whole stack and the real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg2
import pytest

from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.wire import vectors
from tests.conftest import ROOT
from tests.e2e.service import Service, eventually, service

MODEL = "multilingual-e5-small"
# 50 honest results: a newcomer may have 20 in work; then they are taken at once.
HONEST, ROUND, MOST_ROUNDS = (20, 30), 50, 12
LOGIC = "llm: {embedding_provider: local, model_embedding: multilingual-e5-small}"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def model() -> Iterator[Inference]:
    made = Inference(EngineShelf(), SystemClock())
    yield made
    made.close()


def truth(model: Inference, texts: list[str]) -> np.ndarray:
    payload = {"texts": texts, "input_type": "passage"}
    found: np.ndarray = model.submit(MODEL, "embedding", payload).result(60)["embeddings"]
    return found


class Stranger:
    """A worker with an untrusted token."""

    def __init__(self, up: Service) -> None:
        self._up = up
        body = {"name": "stranger", "task_types": ["embedding"], "trust": "untrusted"}
        self._token = self._ops("POST", json=body)["token"]

    def shown(self) -> Any:
        """The token as operators see it."""
        [token] = self._ops("GET")["tokens"]
        return token

    def _ops(self, method: str, **arguments: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._up.run['ops_token']}"}
        return self._up.call(method, "/ops/tokens", headers=headers, **arguments).json()

    def work(self, embed: Any) -> int:
        """Claims all that there is, and hands in what `embed` makes of it."""
        headers = {"Authorization": f"Bearer {self._token}"}
        query = {"worker_id": "stranger", "model": MODEL, "limit": 100, "claim_id": str(uuid4())}
        claimed = self._up.call("GET", "/internal/workers/tasks", params=query, headers=headers)
        tasks = claimed.json()["tasks"]
        for task in tasks:
            result = {"embeddings": vectors.encode(embed(task["payload"]["texts"]))}
            body = {
                "status": "completed",
                "result": result,
                "attempt": task["attempt"],
                "worker_id": "stranger",
            }
            path = f"/internal/workers/tasks/{task['id']}/result"
            answer = self._up.call("POST", path, json={**body, "worker_id": "stranger"}, headers=headers)
            assert answer.status_code == 200, answer.text
        return len(tasks)


@contextmanager
def trusted_worker(up: Service) -> Iterator[None]:
    """Works beside the block, and is drained after it."""
    environ = {**os.environ, "GIFTY_WORKER_TOKEN": up.run["internal_token"], "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "workers.poll", "--api", up.run["api_url"], "--worker-id", "trusted"]
    worker = subprocess.Popen(argv, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        # By the signal itself where it had not even begun.
        assert worker.wait(60) in (0, -signal.SIGTERM)


def counted(up: Service, sql: str) -> int:
    connection = psycopg2.connect(up.run["database_url"])
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        [(found,)] = cursor.fetchall()
    connection.close()
    return int(found)


def all_judged(up: Service) -> bool:
    return not counted(up, "SELECT count(*) FROM compute_checks WHERE stage IN ('held', 'asked')")


def test_noise_after_50_honest_results_ends_in_quarantine_and_is_recomputed(
    tmp_path: Path, model: Inference
) -> None:
    with service(tmp_path, "--celery-workers", "0", "--poll-workers", "0", logic=LOGIC) as up:
        stranger, chance = Stranger(up), np.random.default_rng(1)
        honest: list[str] = []
        for count in HONEST:
            honest += [up.submit(f"честный товар {len(honest) + n}") for n in range(count)]
            assert stranger.work(lambda texts: truth(model, texts)) == count
            with trusted_worker(up):
                eventually(lambda: all_judged(up), within=90, what="what was held is judged")
        assert stranger.shown()["verified"] >= HONEST[0]
        assert {up.task(one)["worker_id"] for one in honest} == {"stranger"}

        noisy: list[str] = []
        for _ in range(MOST_ROUNDS):
            noisy += [up.submit(f"шумный товар {len(noisy) + n}") for n in range(ROUND)]
            assert stranger.work(lambda texts: chance.normal(size=(len(texts), 384)).astype("f4")) == ROUND
            with trusted_worker(up):
                eventually(lambda: all_judged(up), within=90, what="what was asked again is judged")
            if stranger.shown()["quarantined_at"]:
                break

        assert stranger.shown()["quarantined_at"]
        more = up.submit("новый товар")
        assert stranger.work(lambda texts: truth(model, texts)) == 0
        corrected = "SELECT count(*) FROM compute_tasks WHERE NOT referee AND revision = 1"
        with trusted_worker(up):
            eventually(lambda: counted(up, corrected) == len(noisy), within=120, what="all noise is replaced")
            up.all_done([more], within=60)
        for number, task_id in enumerate(noisy):
            found = np.array(up.task(task_id)["result"]["embeddings"], dtype=np.float32)
            assert vectors.same(truth(model, [f"шумный товар {number}"]), found)
        assert {up.task(one)["worker_id"] for one in honest} == {"stranger"}
