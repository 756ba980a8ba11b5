"""A Celery worker outside of the service's network: Redis wakes it, all else it does over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import SubmitRequest, Task
from gifty_compute.wire.token import Minted, MintRequest
from tests.conftest import LOCAL_LOGIC, ROOT

OPTIONS = (
    "worker",
    "--concurrency",
    "1",
    "--without-gossip",
    "--without-mingle",
)


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = Deadline.after(60, SystemClock())
    while not condition():
        assert not deadline.expired, f"not within 60 s: {what}"
        threading.Event().wait(0.1)


@contextmanager
def celery_worker(
    name: str,
    log: Path,
    *,
    app: str = "workers",
    pool: str = "threads",
    options: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that knows no database."""
    clean = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                app,
                *OPTIONS,
                "--pool",
                pool,
                "--hostname",
                f"{name}@test",
                *options,
            ],
            cwd=ROOT,
            env={**clean, "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def token(core: Core) -> Minted:
    return core.tokens.mint(MintRequest(name="home-gpu"), created_by="anna")


@pytest.fixture
def environment(facade_url: str, valkey: Valkey, token: Minted) -> dict[str, str]:
    return {"REDIS_URL": valkey.url, "GIFTY_COMPUTE_URL": facade_url, "GIFTY_WORKER_TOKEN": token.token}


def submit(core: Core, *texts: str, **fields: Any) -> list[Task]:
    """Commits and announces a task for each text."""
    tasks = []
    for words in texts:
        request = SubmitRequest(task_type="embedding", payload={"texts": [words]}, **fields)
        task, _ = core.store.submit(request, Origin(client="shop"))
        core.announcer.announce(task)
        tasks.append(task)
    return tasks


def statuses(core: Core, tasks: list[Task]) -> list[str]:
    return [core.store.stored(task.id).status for task in tasks]


def test_a_worker_without_a_database_does_tasks_over_http(
    core: Core, environment: dict[str, str], token: Minted, tmp_path: Path
) -> None:
    tasks = submit(core, "чайник", "самовар", "удочка")

    with celery_worker("gpu", tmp_path / "log", **environment):
        eventually(lambda: statuses(core, tasks) == ["completed"] * 3, "three tasks completed")
        inspect = core.announcer._app.control.inspect(destination=["gpu@test"], timeout=5)
        consumed = {queue["name"] for queue in inspect.active_queues()["gpu@test"]}
        log = (tmp_path / "log").read_text()

    rows = [core.database.row("stored", id=str(task.id)) for task in tasks]
    assert {(row["credential"], row["worker_id"], row["attempt"]) for row in rows if row} == {
        (str(token.id), "gpu@test", 1)
    }
    assert all(row["dtype"] == "float32" for row in rows if row)
    assert "embedding.multilingual-e5-small" in consumed
    assert "maintain" not in consumed
    assert token.token not in log


def test_a_task_that_the_worker_cannot_do_is_failed_over_http(
    core: Core, environment: dict[str, str], tmp_path: Path
) -> None:
    # Committed as it is by SQL: no submit would take such a payload.
    [task] = submit(core, "чайник", max_attempts=1)
    with core.database.connection() as connection:
        connection.exec_driver_sql("UPDATE compute_tasks SET payload = payload - 'texts'")

    with celery_worker("gpu", tmp_path / "log", **environment):
        eventually(lambda: statuses(core, [task]) == ["failed"], "the task failed")

    assert "KeyError" in str(core.store.stored(task.id).error)


def test_a_worker_whose_token_is_revoked_does_nothing_more(
    core: Core, environment: dict[str, str], token: Minted, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with celery_worker("gpu", log, **environment):
        first = submit(core, "чайник")
        eventually(lambda: statuses(core, first) == ["completed"], "the first task completed")
        core.tokens.revoke(token.id)
        second = submit(core, "самовар")
        eventually(lambda: "TokenRefused" in log.read_text(), "the worker is refused")

    assert statuses(core, second) == ["pending"]


def test_a_worker_with_neither_a_database_nor_a_facade_does_not_start(valkey: Valkey, tmp_path: Path) -> None:
    unset = {"REDIS_URL": valkey.url, "GIFTY_COMPUTE_URL": "http://127.0.0.1:1", "GIFTY_WORKER_TOKEN": ""}

    with celery_worker("gpu", tmp_path / "log", **unset) as process:
        assert process.wait(60) != 0

    assert "DATABASE_URL" in (tmp_path / "log").read_text()
