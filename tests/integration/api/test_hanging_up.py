"""A worker that hangs up while it waits, before the server that production runs: it is handed nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.store import Origin
from gifty_compute.wire.task import SubmitRequest
from tests.conftest import LOCAL_LOGIC, ROOT
from tests.integration.conftest import WORKER

OPTIONS = ("--interface", "wsgi", "--blocking-threads", "16", "--host", "127.0.0.1", "--no-ws")
WAITING = "/internal/workers/tasks?worker_id=w&wait=25&lease=30"


@pytest.fixture
def granian(database_url: str, valkey: Valkey) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "granian", *OPTIONS, "--port", str(port), "api.wsgi:app"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
            "INTERNAL_API_TOKEN": "internal-token",
            "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC),
            "FACADE_THREADS": "16",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = Deadline.after(60, SystemClock())
    while not answers(url):
        assert not deadline.expired, "granian did not start"
        threading.Event().wait(0.1)
    yield url
    server.terminate()
    server.wait(60)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def submit(core: Core) -> str:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["чайник"]})
    return str(core.store.submit(request, Origin(client="shop"))[0].id)


def begin(granian: str) -> requests.Response:
    """A claim that waits: its headers come when it begins to."""
    return requests.get(granian + WAITING, headers=WORKER, timeout=40, stream=True)


def test_a_worker_that_hung_up_while_it_waited_is_handed_nothing(granian: str, core: Core) -> None:
    first, second = begin(granian), begin(granian)
    first.close()

    task_id = submit(core)

    assert [(task["id"], task["attempt"]) for task in second.json()["tasks"]] == [(task_id, 1)]


def test_a_worker_that_waits_before_granian_is_answered_as_soon_as_work_comes(
    granian: str, core: Core
) -> None:
    waiting = begin(granian)

    task_id = submit(core)

    assert [task["id"] for task in waiting.json()["tasks"]] == [task_id]
    assert waiting.headers["Content-Type"] == "application/json"
