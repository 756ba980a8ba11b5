"""A database that neither answers nor breaks: 503 within a bound, and high priority goes on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import connect
from tests.e2e.service import eventually
from tests.facade import running_facade

API = {"Authorization": "Bearer api-token"}
TASK = {"task_type": "embedding", "payload": {"texts": ["чай"]}}
THREADS = 16


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """The server and all its processes stand still: sockets stay open and nothing comes."""
    leader = psutil.Process(server.child.pid)
    pids = [leader.pid, *(child.pid for child in leader.children(recursive=True))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def submit(url: str) -> requests.Response:
    return requests.post(f"{url}/v1/tasks", json=TASK, headers=API, timeout=60)


def embed(url: str) -> int:
    body = {"input": "чай", "timeout_ms": 20_000}
    return requests.post(f"{url}/v1/embeddings", json=body, headers=API, timeout=60).status_code


def test_a_database_that_hangs_is_503_and_leaves_threads_for_high_priority(
    valkey: Valkey, tmp_path: Path
) -> None:
    (tmp_path / "postgres").mkdir()
    server = Postgres(tmp_path / "postgres")
    server.start()
    database = connect(server.url)
    migrate(database.engine)
    database.close()
    environ = {"DATABASE_URL": server.url, "REDIS_URL": valkey.url}

    with (
        running_facade(tmp_path, environ, threads=THREADS) as facade,
        ThreadPoolExecutor(4 * THREADS) as callers,
    ):
        assert (submit(facade.url).status_code, embed(facade.url)) == (202, 200)
        with frozen(server):
            submitted = list(callers.map(submit, [facade.url] * 4 * THREADS))
            # By now some threads wait for what will never come: as many as there are connections, at most.
            waiting = [callers.submit(submit, facade.url) for _ in range(2 * THREADS)]
            embedded = [embed(facade.url) for _ in range(3)]
            submitted += [one.result() for one in waiting]
        eventually(
            lambda: submit(facade.url).status_code == 202, within=60, what="the database is asked again"
        )
    server.stop()

    assert Counter(answer.status_code for answer in submitted) == {503: 6 * THREADS}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in submitted)
    assert embedded == [200, 200, 200]
