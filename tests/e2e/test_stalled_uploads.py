"""Who sends a body slowly, or not at all, holds a thread: others are answered all the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from tests.e2e.service import eventually
from tests.facade import RunningFacade, running_facade

API = {"Authorization": "Bearer api-token"}
WORKER = {"Authorization": "Bearer internal-token"}
TASK = {"task_type": "embedding", "payload": {"texts": ["чай"]}}
THREADS = 16


@pytest.fixture
def facade(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningFacade]:
    environ = {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
    with running_facade(tmp_path, environ, threads=THREADS) as running:
        yield running


def stalled(port: int, path: str, token: str, media: str = "application/json") -> socket.socket:
    """An upload of which nothing but the head and three bytes come."""
    upload = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: {media}\r\n"
    upload.sendall(f"{head}Content-Length: 100\r\n\r\n".encode() + b'{"a')
    return upload


def test_without_a_valid_credential_no_upload_holds_a_thread(facade: RunningFacade) -> None:
    with ExitStack() as sockets:
        uploads = [
            sockets.enter_context(stalled(facade.port, path, "wrong"))
            for path in ["/v1/tasks", "/v1/batches", "/internal/workers/results", "/nowhere"] * THREADS
        ]

        heads = [upload.recv(12) for upload in uploads]

    assert heads == [b"HTTP/1.1 401", b"HTTP/1.1 401", b"HTTP/1.1 401", b"HTTP/1.1 404"] * THREADS


def test_while_uploads_stall_others_are_answered(facade: RunningFacade) -> None:
    paths = [
        ("/v1/tasks", "api-token", "application/json"),
        ("/v1/batches", "api-token", "application/x-ndjson"),
        ("/internal/workers/results", "internal-token", "application/json"),
    ]

    def submit() -> requests.Response:
        return requests.post(f"{facade.url}/v1/tasks", json=TASK, headers=API, timeout=10)

    with ExitStack() as sockets:
        for path in paths * THREADS:
            sockets.enter_context(stalled(facade.port, *path))
        [refused] = eventually(
            lambda: (answer := submit()).status_code == 503 and [answer],
            within=30,
            what="no place for a body is left",
        )
        ready = requests.get(f"{facade.url}/readyz", timeout=10)
        listed = requests.get(f"{facade.url}/v1/tasks", headers=API, timeout=10)
        claimed = requests.get(f"{facade.url}/internal/workers/tasks?worker_id=w", headers=WORKER, timeout=10)

    assert refused.headers["Retry-After"] == "1"
    assert [answer.status_code for answer in (ready, listed, claimed)] == [200, 200, 200]
    eventually(lambda: submit().status_code == 202, within=30, what="a body is read again")
