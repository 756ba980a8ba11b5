"""`up` as a process: starts everything, stops on a signal, leaves nothing after kill -9, recovers.

The servers, granian, Flower and the keeping of them are real; the project's programs are stand-ins,
so that what is tested here does not depend on what they do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import requests

from tests.conftest import ROOT

Eventually = Callable[[Callable[[], bool]], None]
IsRunning = Callable[[int], bool]

WSGI = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["LOGIC_CONFIG_PATH"].encode()]
"""
LOGIC = "llm: {embedding_provider: local, model_embedding: multilingual-e5-small}"
CELERY = """
import os
from celery import Celery
app = Celery("stand-in", broker=os.environ["REDIS_URL"].replace("unix:", "redis+socket:").partition("?")[0])
"""
POLL = """
import signal, os
assert os.environ["GIFTY_WORKER_TOKEN"]
print('{"event": "ready"}')
signal.pause()
"""
UP = """
import sys
from pathlib import Path
from gifty_compute.stack import Options, stack, up
stack.find_checkout = lambda: Path(sys.argv[1])
stack.migration = lambda: (sys.executable, "-c", "import os; os.environ['DATABASE_URL']")
up(Options(Path(sys.argv[2]), port=0, celery_workers=0), lambda line: print(line, flush=True))
"""


@dataclass
class Up:
    """One running `up`, and what its run.json says."""

    process: subprocess.Popen[str]
    data_dir: Path

    @property
    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return info

    def wait_for(self, part: str) -> str:
        """The first line that holds `part`; fails with all lines when the process ends without one."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if part in line:
                return line
        raise AssertionError("".join(lines))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "the checkout"
    server = (ROOT / "api/server.py").read_text()
    files = {
        "api/wsgi.py": WSGI,
        "workers/celery.py": CELERY,
        "workers/poll.py": POLL,
        "api/server.py": server,
    }
    for name, text in {**files, "configs/logic.local.yaml": LOGIC}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.joinpath("__init__.py").touch()
        path.write_text(text)
    return root


@pytest.fixture
def start_up(checkout: Path, fresh_cluster: Path, tmp_path: Path) -> Iterator[Callable[[], Up]]:
    data_dir = tmp_path / "данные"
    data_dir.mkdir(mode=0o700)
    shutil.copytree(fresh_cluster, data_dir / "postgres")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with contextlib.ExitStack() as started:

        def start() -> Up:
            process = subprocess.Popen(
                [sys.executable, "-c", UP, str(checkout), str(data_dir)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environ,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return Up(process, data_dir)

        yield start


def test_up_serves_tells_where_and_ends_with_0_on_sigterm(
    start_up: Callable[[], Up], is_running: IsRunning
) -> None:
    up = start_up()
    up.wait_for("Ready.")
    info = up.info

    facade = requests.get(info["api_url"], timeout=5)
    flower = requests.get(f"{info['flower_url']}/api/workers", timeout=5)
    trusted = requests.get(
        f"{info['flower_url']}/api/workers", auth=tuple(info["flower_auth"].split(":")), timeout=5
    )
    psycopg2.connect(info["database_url"]).close()
    with redis.Redis.from_url(info["redis_url"]) as client:
        client.ping()
    mode = stat.S_IMODE((up.data_dir / "run.json").stat().st_mode)
    up.process.send_signal(signal.SIGTERM)
    up.wait_for("Stopped.")

    assert facade.text.endswith("configs/logic.local.yaml")
    assert (flower.status_code, trusted.status_code) == (401, 200)
    assert mode == 0o600
    assert set(info["pids"]) == {"up", "postgres", "valkey", "facade", "flower", "poll-1"}
    assert up.process.wait(10) == 0
    assert not any(is_running(pid) for pid in info["pids"].values())
    assert not (up.data_dir / "run.json").exists()


def test_killed_up_leaves_nothing_and_the_next_loses_nothing(
    start_up: Callable[[], Up], eventually: Eventually, is_running: IsRunning
) -> None:
    killed = start_up()
    killed.wait_for("Ready.")
    before = killed.info
    connection = psycopg2.connect(before["database_url"])
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 'подарок' AS word")
    connection.close()
    killed.process.kill()

    up = start_up()  # at once: it waits for what the other has left
    up.wait_for("Ready.")

    assert not any(is_running(pid) for pid in before["pids"].values())
    after = up.info
    assert after["api_token"] == before["api_token"]
    connection = psycopg2.connect(after["database_url"])
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT word FROM kept")
        assert cursor.fetchone() == ("подарок",)
    connection.close()

    os.killpg(after["pids"]["postgres"], signal.SIGKILL)
    up.wait_for("postgres runs again")
    eventually(lambda: up.info["pids"]["postgres"] != after["pids"]["postgres"])
    up.process.send_signal(signal.SIGINT)
    up.wait_for("Stopped.")
    assert up.process.wait(10) == 0


def test_program_that_cannot_start_ends_up_with_its_log_and_nothing_left(
    start_up: Callable[[], Up], checkout: Path
) -> None:
    (checkout / "workers/poll.py").write_text("raise SystemExit('the moon is wrong')")
    up = start_up()

    up.wait_for("poll-1 ended with status 1 before it was ready")

    up.wait_for("the moon is wrong")
    assert up.process.wait(20) == 1
    assert not (up.data_dir / "postgres/cluster/postmaster.pid").exists()


def test_interrupt_while_starting_is_a_clean_end(start_up: Callable[[], Up]) -> None:
    up = start_up()
    up.wait_for("Starting")

    up.process.send_signal(signal.SIGINT)

    up.wait_for("Stopped.")
    assert up.process.wait(10) == 0
    assert not (up.data_dir / "postgres/cluster/postmaster.pid").exists()
