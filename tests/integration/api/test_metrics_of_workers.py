"""Several facade processes behind one port, as granian runs them: a scrape of any shows the counts of all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from gifty_compute.stack.ports import choose_addresses
from tests.conftest import LOCAL_LOGIC, ROOT
from tests.e2e.service import eventually

WORKERS = 2
OPS = {"Authorization": "Bearer ops-token"}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "metrics"
    directory.mkdir()
    return directory


@pytest.fixture
def facade(database_url: str, valkey: Valkey, shared: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a facade of two processes."""
    port = choose_addresses(0).port
    argv = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", str(WORKERS)]
    argv += ["--blocking-threads", "4", "--host", "127.0.0.1", "--port", str(port), "--no-ws", "api.wsgi:app"]
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "OPS_TOKENS": "ann:viewer:ops-token",
        "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC),
        "PROMETHEUS_MULTIPROC_DIR": str(shared),
    }
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        granian = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield url
    finally:
        granian.send_signal(signal.SIGTERM)
        assert granian.wait(60) == 0, (tmp_path / "log").read_text()


def ask(url: str) -> bool:
    """Over a connection of its own, which either process may take."""
    try:
        return requests.get(f"{url}/healthz", timeout=10).ok
    except requests.ConnectionError:
        return False


def test_a_scrape_of_any_process_shows_the_counts_of_all(facade: str, shared: Path) -> None:
    answered = 0

    def all_have_answered() -> bool:
        nonlocal answered
        answered += ask(facade)
        return len({path.stem for path in shared.glob("counter_*.db")}) == WORKERS

    eventually(all_have_answered, within=60, what="each process has answered")

    scrapes = [requests.get(f"{facade}/metrics", headers=OPS, timeout=10).text for _ in range(10)]

    counted = r'gifty_answers_total\{path="/healthz",status="200"\} (\S+)'
    assert [float(found) for text in scrapes for found in re.findall(counted, text)] == [answered] * 10
    assert all(re.search(r"^gifty_answer_seconds_bucket{", text, re.M) for text in scrapes)
    assert all(re.search(r"^gifty_maintain_last_pass_timestamp_seconds \d", text, re.M) for text in scrapes)
    assert all(re.search(r'^gifty_logic{version="\w+"} 1.0', text, re.M) for text in scrapes)
