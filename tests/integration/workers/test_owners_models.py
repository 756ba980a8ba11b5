"""Workers that run what their owners say: a function for a declared type, a chat model at a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from gifty_compute.wire.score import AXES
from tests.conftest import ROOT
from tests.facade import RunningFacade, process_of, running_facade
from tests.fakes.scorer import scorer

API = {"Authorization": "Bearer api-token"}
LOGIC = """
llm: {embedding_provider: local, model_embedding: multilingual-e5-small}
task_types: {ocr: {model: tesseract-5}}
"""
FUNCTION = """
def read(payload):
    if payload["url"] == "broken":
        raise ValueError("no such picture")
    return {"words": payload["url"].split("-")}
"""


@pytest.fixture
def facade(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningFacade]:
    (tmp_path / "logic.yaml").write_text(LOGIC)
    environ = {
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "LOGIC_CONFIG_PATH": str(tmp_path / "logic.yaml"),
    }
    with running_facade(tmp_path, environ, threads=16) as running:
        yield running


@pytest.fixture
def chat() -> Iterator[str]:
    with scorer() as url:
        yield url


def submit(facade: RunningFacade, task_type: str, payload: Any) -> str:
    body = {"task_type": task_type, "payload": payload, "max_attempts": 1}
    answer = requests.post(f"{facade.url}/v1/tasks", json=body, headers=API, timeout=20)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(facade: RunningFacade, task_id: str) -> Any:
    url = f"{facade.url}/v1/tasks/{task_id}"
    return requests.get(url, params={"wait": 60}, headers=API, timeout=90).json()


@contextmanager
def worker(facade: RunningFacade, folder: Path, *options: str) -> Iterator[None]:
    argv = (sys.executable, "-m", "workers.poll", "--api", facade.url, "--worker-id", "own", *options)
    environ = {"GIFTY_WORKER_TOKEN": "internal-token", "PYTHONPATH": f"{ROOT}:{folder}"}
    with (folder / "worker.log").open("wb") as log, process_of(argv, environ, log):
        yield


@contextmanager
def celery_worker(facade: RunningFacade, folder: Path, redis_url: str) -> Iterator[None]:
    """Which has no models, only the function."""
    argv = [sys.executable, "-m", "celery", "-A", "workers", "worker", "--pool", "threads"]
    argv += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--hostname", "own"]
    environ = {
        "GIFTY_WORKER_HANDLERS": "ocr=pictures:read",
        "GIFTY_WORKER_TOKEN": "internal-token",
        "GIFTY_COMPUTE_URL": facade.url,
        "REDIS_URL": redis_url,
        "LOGIC_CONFIG_PATH": str(folder / "logic.yaml"),
        "PYTHONPATH": f"{ROOT}:{folder}",
    }
    with (folder / "worker.log").open("wb") as log, process_of(tuple(argv), environ, log):
        yield


@pytest.mark.parametrize("kind", ["poll", "celery"])
def test_a_function_does_the_tasks_of_a_declared_type_and_its_failure_is_the_tasks(
    facade: RunningFacade, valkey: Valkey, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "pictures.py").write_text(FUNCTION)
    good, bad = (submit(facade, "ocr", {"url": url}) for url in ("чай-мёд", "broken"))
    other = submit(facade, "embedding", {"texts": ["чай"]})

    poll = worker(facade, tmp_path, "--handler", "ocr=pictures:read")
    with poll if kind == "poll" else celery_worker(facade, tmp_path, valkey.url):
        read, failed = ended(facade, good), ended(facade, bad)

    assert (read["status"], read["result"], read["worker_id"].removeprefix("celery@")) == (
        "completed",
        {"words": ["чай", "мёд"]},
        "own",
    )
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: no such picture")
    url = f"{facade.url}/v1/tasks/{other}"
    assert requests.get(url, headers=API, timeout=20).json()["status"] == "pending"


def test_products_are_scored_on_the_ten_axes_by_a_chat_model_at_a_server(
    facade: RunningFacade, tmp_path: Path, chat: str
) -> None:
    task_id = submit(facade, "score", {"products": [{"id": "p40", "title": "Плед", "axes": True}]})
    options = ("--model", "gift-scorer", "--engine", "llm", "--source", "acme/scorer", "--url", chat)

    with worker(facade, tmp_path, *options):
        task = ended(facade, task_id)

    assert task["status"] == "completed", task["error"]
    [score] = task["result"]["scores"]
    assert (score["id"], score["gift_score"]) == ("p40", 8.0)
    assert set(score["gift_vector"]) == set(AXES)
