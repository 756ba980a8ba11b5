"""The facade behind the server that production runs."""

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
from gifty_compute.embedded.valkey import Valkey
from tests.conftest import LOCAL_LOGIC, ROOT

OPTIONS = ("--interface", "wsgi", "--blocking-threads", "64", "--host", "127.0.0.1", "--no-ws")


@pytest.fixture
def granian(database_url: str, valkey: Valkey) -> Iterator[str]:
    """Its address."""
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
            "API_TOKENS": "backend:api-token",
            "INTERNAL_API_TOKEN": "internal-token",
            "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC),
            "FACADE_THREADS": "64",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = Deadline.after(60, SystemClock())
    while not _answers(url):
        assert not deadline.expired, "granian did not start"
        threading.Event().wait(0.1)
    yield url
    server.terminate()
    server.wait(60)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
