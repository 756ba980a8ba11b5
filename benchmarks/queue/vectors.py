"""Vectors: bulk results in binary form beside JSON lists, through the facade into PostgreSQL, by CPU time."""

from __future__ import annotations

import base64
import statistics
from pathlib import Path

import click
import numpy as np
import orjson
import psutil
import psycopg2.extras
import requests

from benchmarks.load import cpu_seconds
from benchmarks.queue.stand import LOGIC, Stand
from benchmarks.servers import facade
from gifty_compute.logic.source import parse_logic

__all__ = ["measure"]

_TASKS, _ROWS, _DIM = 8, 64, 1024
_VECTORS = _TASKS * _ROWS
_HEADERS = {"Authorization": "Bearer internal", "Content-Type": "application/json"}
_FILL = """
INSERT INTO compute_tasks (task_type, payload, model, space, tokens, lane)
SELECT 'embedding', %s, 'bge-m3', %s, 512, 'bench' FROM generate_series(1, %s)
"""


def measure(stand: Stand, rounds: int, folder: Path) -> None:
    """Prints CPU of facade and PostgreSQL a vector, and the ratio."""
    array = np.random.default_rng(1).standard_normal((_ROWS, _DIM), np.float32)
    binary = {
        "dtype": "float32",
        "shape": [_ROWS, _DIM],
        "data": base64.b64encode(array.tobytes()).decode(),
    }
    forms = {"JSON lists": array.astype(float).tolist(), "binary": binary}
    found: dict[str, list[float]] = {name: [] for name in forms}
    stand.empty()
    payload = psycopg2.extras.Json({"texts": ["чай"] * _ROWS, "model": "bge-m3"})
    stand.cursor.execute(
        _FILL,
        (payload, parse_logic(LOGIC).space_name("embedding", "bge-m3"), 2 * _TASKS * (rounds + 1)),
    )
    stand.bare.commit()
    env = {"MAX_BODY_BYTES": str(64 * 2**20)}
    with facade(folder, LOGIC, env=env, at=(stand.postgres, stand.valkey)) as server:
        trees = (server.psutil, psutil.Process(stand.postgres.child.pid))
        for number in range(rounds + 1):
            for name, embeddings in forms.items():
                body = _body(server.url, embeddings)
                before = sum(map(cpu_seconds, trees))
                answer = requests.post(
                    f"{server.url}/internal/workers/results", body, headers=_HEADERS, timeout=60
                )
                spent = sum(map(cpu_seconds, trees)) - before
                assert {one["status"] for one in answer.json()["verdicts"]} == {"completed"}, answer.text
                if number:
                    found[name].append(spent / _VECTORS)
    for name, spent in found.items():
        each = statistics.mean(spent)
        click.echo(
            f"  {name:12}{each * 1e6:8.0f} us CPU a vector, {1 / each:8.0f} vectors/s a core (binary: 5000)"
        )
    ratio = statistics.mean(found["JSON lists"]) / statistics.mean(found["binary"])
    click.echo(f"  JSON lists / binary                       {ratio:.1f} (25)")


def _body(url: str, embeddings: object) -> bytes:
    query = {"worker_id": "w", "task_type": "embedding", "model": "bge-m3", "limit": _TASKS}
    answer = requests.get(f"{url}/internal/workers/tasks", query, headers=_HEADERS, timeout=60)
    tasks = answer.json()["tasks"]
    assert len(tasks) == _TASKS, answer.text
    results = [
        {
            "id": task["id"],
            "attempt": task["attempt"],
            "status": "completed",
            "result": {"embeddings": embeddings},
        }
        for task in tasks
    ]
    return orjson.dumps({"worker_id": "w", "results": results})
