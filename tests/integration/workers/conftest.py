"""Poll workers as processes, over the facade in process, with leases of four seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.settings import Settings
from tests.conftest import LOCAL_LOGIC, ROOT


def eventually(condition: Callable[[], Any], what: str, within: float = 60) -> None:
    deadline = Deadline.after(within, SystemClock())
    while not condition():
        assert not deadline.expired, f"not within {within} s: {what}"
        threading.Event().wait(0.05)


class PollProcess:
    """A running `python -m workers.poll`; its log is a file."""

    def __init__(self, name: str, log: Path, url: str, *options: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.poll", "--worker-id", name, *options],
                cwd=ROOT,
                env={
                    **os.environ,
                    "GIFTY_COMPUTE_URL": url,
                    "GIFTY_WORKER_TOKEN": "internal-token",
                    # Threads of several workers on few cores wait for each other at every barrier.
                    "OMP_NUM_THREADS": "1",
                },
                stderr=output,
            )

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def short_leases(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "logic.yaml"
    file.write_text(LOCAL_LOGIC.read_text(encoding="utf-8") + "\nleases: {seconds: 4}\n", encoding="utf-8")
    return Settings(**{**dict(settings), "logic_config_path": file})


@pytest.fixture
def poll_worker(facade_url: str, tmp_path: Path) -> Iterator[Callable[..., PollProcess]]:
    """Starts one; all are gone at the end."""
    started: list[PollProcess] = []

    def start(name: str, *options: str) -> PollProcess:
        started.append(PollProcess(name, tmp_path / f"{name}.log", facade_url, *options))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait(10)
