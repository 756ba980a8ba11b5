"""The receiver of docs/callbacks.md, as a reader would run it, told by a real facade."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.callbacks.signing import Signer
from gifty_compute.core import Core
from gifty_compute.stack.ports import choose_addresses
from tests.conftest import ROOT
from tests.integration.callbacks.conftest import (
    CLOCK,
    OLDER,
    SECRET,
    complete,
    sql,
    stored,
    until,
)
from tests.integration.conftest import API

PAGES = ("docs/callbacks.md", "docs/callbacks.ru.md")


def sample(page: str) -> str:
    found = re.search(
        r"^<!-- example: receiver -->\n```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.M | re.S
    )
    assert found is not None
    return found[1]


def test_both_pages_show_the_same_short_receiver() -> None:
    english, russian = map(sample, PAGES)

    assert english == russian
    assert len([line for line in english.splitlines() if line]) <= 25


@pytest.fixture(params=[SECRET, OLDER], ids=["the newest secret", "the one before"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of the sample, which knows one of the service's two secrets."""
    (tmp_path / "receiver.py").write_text(sample(PAGES[0]), encoding="utf-8")
    port = choose_addresses(0).port
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "receiver", "run", "--port", str(port)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "CALLBACK_SECRET": request.param},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 404
    except requests.ConnectionError:
        return False


@pytest.fixture
def facade(core: Core) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(core), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    core.callbacks.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def taken(tmp_path: Path) -> list[tuple[str, str, str]]:
    database = sqlite3.connect(tmp_path / "ends.db")
    rows = database.execute("SELECT * FROM ends").fetchall()
    database.close()
    return rows


def test_it_takes_each_end_once(core: Core, facade: str, receiver: str, tmp_path: Path) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["чай"]}, "callback_url": f"{receiver}/hook"}
    task = requests.post(f"{facade}/v1/tasks", json=body, headers=API, timeout=20).json()
    complete(core, core.store.stored(task["id"]))
    until(lambda: stored(core).delivered_at)
    sql(core, "UPDATE compute_callbacks SET delivered_at = NULL, due_at = now()")

    until(lambda: stored(core).delivered_at)

    assert stored(core).tries == 2
    assert taken(tmp_path) == [(f"{task['id']}.1.task.completed", task["id"], "completed")]


def test_it_refuses_what_is_not_signed_by_the_service(receiver: str) -> None:
    stranger = Signer(["whsec_c29tZWJvZHkgZWxzZSwgYWxzbyAyNCBieXRl"])
    body = b'{"type": "task.completed", "data": {"id": "7"}}'

    forged = requests.post(
        f"{receiver}/hook", body, headers=stranger.headers("1", CLOCK.now(), body), timeout=20
    )
    bare = requests.post(f"{receiver}/hook", body, timeout=20)

    assert (forged.status_code, bare.status_code) == (401, 401)
