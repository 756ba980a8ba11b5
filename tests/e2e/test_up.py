"""The whole stack in real processes: both workers, Flower, and rows that come by SQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import requests

from tests.conftest import ROOT
from tests.e2e.service import Service, eventually, service


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One Celery worker, no poll worker."""
    with service(tmp_path_factory.mktemp("up"), "--poll-workers", "0") as running:
        yield running


def readme_block(name: str, language: str = "python") -> str:
    """The first block of this language in the example of this name."""
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"<!-- example: {name} -->")
    _, _, code = rest.partition(f"```{language}\n")
    return code.partition("```")[0]


def test_the_bare_worker_of_the_readme_shares_200_tasks_with_celery(up: Service) -> None:
    code = readme_block("bare-worker")
    # Held up before it has anything in hand: it would be through before the other has loaded its model.
    celery = os.getpgid(up.run["pids"]["celery-1"])
    os.killpg(celery, signal.SIGSTOP)
    ids = [up.submit(f"подарок номер {n}") for n in range(200)]
    env = {
        **os.environ,
        "API_URL": up.run["api_url"],
        "INTERNAL_API_TOKEN": up.run["internal_token"],
        "STOP_WHEN_IDLE": "1",
        "OMP_NUM_THREADS": "1",
    }

    bare = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        eventually(lambda: up.task(ids[0])["worker_id"] == "bare-1", within=60, what="bare-1 has a task")
    finally:
        os.killpg(celery, signal.SIGCONT)
    assert bare.wait(90) == 0
    tasks = up.all_done(ids, within=60)

    workers = Counter(task["worker_id"] for task in tasks)
    assert len(workers) == 2, workers
    assert {(task["attempt"], task["failures"]) for task in tasks} == {(1, 0)}


def test_the_client_of_the_readme_prints_what_is_shown_there(up: Service) -> None:
    env = {**os.environ, "API_URL": up.run["api_url"], "API_TOKEN": up.run["api_token"]}

    ended = subprocess.run(
        [sys.executable, "-c", readme_block("client")],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=90,
    )

    assert ended.stdout == readme_block("client", "text")


def test_flower_shows_the_id_of_a_task_as_succeeded_and_no_payload(up: Service) -> None:
    canary = "канарейка-7f3a"
    task_id = up.submit(canary)
    up.all_done([task_id], within=30)
    auth = tuple(up.run["flower_auth"].split(":", 1))

    def succeeded() -> Any:
        found = requests.get(f"{up.run['flower_url']}/api/task/info/{task_id}", auth=auth, timeout=10)
        return found.ok and found.json()["state"] == "SUCCESS" and found.json()

    info = eventually(succeeded, within=20, what="Flower knows the task as succeeded")
    # Another announcement's worker may have come first; then the verdict says so.
    assert info["result"].strip("'") in ("done 1", "done 0, taken elsewhere 1")
    assert canary not in str(info)
    assert requests.get(f"{up.run['flower_url']}/api/workers", timeout=10).status_code == 401


def test_a_row_inserted_by_sql_is_done_by_celery(up: Service) -> None:
    connection = psycopg2.connect(up.run["database_url"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO compute_tasks (id, task_type, priority, status, payload)
               VALUES (gen_random_uuid(), 'embedding', 'low', 'pending', '{"texts": ["самовар"]}')
               RETURNING id"""
        )
        (task_id,) = cursor.fetchone()

        (task,) = up.all_done([task_id], within=30)

        cursor.execute(
            "SELECT jsonb_array_length(result -> 'embeddings' -> 0) FROM compute_task_results WHERE id = %s",
            [task_id],
        )
        assert cursor.fetchone() == (384,)
    connection.close()
    assert task["worker_id"].startswith("celery-1@")


def test_killing_the_celery_workers_group_loses_nothing(up: Service) -> None:
    ids = [up.submit(f"товар {n} для дома и сада") for n in range(200)]
    pid = up.run["pids"]["celery-1"]
    eventually(lambda: up.task(ids[20])["status"] == "completed", within=60, what="the work has begun")

    os.killpg(os.getpgid(pid), signal.SIGKILL)

    tasks = up.all_done(ids, within=60)
    assert all(task["failures"] <= 1 for task in tasks)
    # No more than it had claimed ahead: as many as it had done, and four.
    assert sum(task["attempt"] > 1 for task in tasks) < 100
    assert up.run["pids"]["celery-1"] != pid


def test_every_kind_of_low_work_is_done_by_celery(up: Service) -> None:
    bodies = [
        {"task_type": "rerank", "payload": {"query": "рыбалка", "documents": ["удочка", "чайник"]}},
        {
            "task_type": "classify",
            "payload": {"external_names": ["Удочки"], "internal_categories": [{"id": 1, "name": "Рыбалка"}]},
        },
    ]
    ids = [up.call("POST", "/v1/tasks", json=body).json()["id"] for body in bodies]

    reranked, classified = up.all_done(ids, within=30)

    assert reranked["result"]["scores"][0] > reranked["result"]["scores"][1]
    assert reranked["result"]["kind"] == "bi-encoder"
    assert classified["result"]["mappings"][0]["internal_category_id"] == 1


def test_openapi_and_docs_are_served(up: Service) -> None:
    document = up.call("GET", "/openapi.json").json()

    assert {"/v1/embeddings", "/v1/tasks/{task_id}", "/internal/workers/tasks"} <= set(document["paths"])
    assert "gifty-compute" in requests.get(up.run["api_url"] + "/docs", timeout=10).text


def test_run_json_and_the_data_directory_are_private(up: Service) -> None:
    for path in (up.data_dir / "run.json", up.data_dir / "secrets.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert up.data_dir.stat().st_mode & 0o777 == 0o700
