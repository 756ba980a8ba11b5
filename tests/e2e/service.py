"""`gifty-compute up` as a person starts it, and a client of what it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from gifty_compute.clock import Deadline, SystemClock
from tests.conftest import ROOT

LOGIC = """
llm: {embedding_provider: local, model_embedding: multilingual-e5-small}
rerank: {model: multilingual-e5-small, providers: [local]}
classify: {model: multilingual-e5-small, providers: [local]}
leases: {seconds: 4, bare_seconds: 6}
"""


def eventually(true: Callable[[], Any], *, within: float, what: str) -> Any:
    """What the condition gives as soon as it is true; fails when the seconds have passed."""
    deadline = Deadline.after(within, SystemClock())
    pause = threading.Event()
    while not (found := true()):
        if deadline.expired:
            raise AssertionError(f"not within {within} s: {what}")
        pause.wait(0.1)
    return found


class Service:
    """A running stack: its run.json, what it says, and calls to its API."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, lines: list[str]) -> None:
        self.process, self.data_dir, self.lines = process, data_dir, lines
        self.session = requests.Session()

    @property
    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return found

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        token = self.run["internal_token" if path.startswith("/internal") else "api_token"]
        headers = {"Authorization": f"Bearer {token}", **arguments.pop("headers", {})}
        return self.session.request(
            method, self.run["api_url"] + path, headers=headers, timeout=(5, 70), **arguments
        )

    def submit(self, text: str, **fields: Any) -> str:
        body = {"task_type": "embedding", "payload": {"texts": [text]}, **fields}
        answer = self.call("POST", "/v1/tasks", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def task(self, task_id: str, wait: int = 0) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/tasks/{task_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def all_done(self, ids: list[str], *, within: float) -> list[dict[str, Any]]:
        """The tasks, once every one of them has completed."""
        ends: dict[str, dict[str, Any]] = {}

        def done() -> bool:
            for task_id in ids:
                if task_id not in ends:
                    task = self.task(task_id)
                    if task["status"] != "completed":
                        assert task["status"] != "failed", task["error"]
                        return False
                    ends[task_id] = task
            return True

        eventually(done, within=within, what=f"{len(ids)} tasks completed")
        return [ends[task_id] for task_id in ids]


@contextmanager
def service(
    tmp_path: Path, *options: str, logic: str = LOGIC, env: dict[str, str] | None = None
) -> Iterator[Service]:
    """`up` in a process of its own, ready; ended by SIGTERM, which must succeed."""
    data_dir = tmp_path / "data"
    (tmp_path / "logic.yaml").write_text(logic)
    clean = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gifty_compute.commands",
            "up",
            "--data-dir",
            data_dir,
            "--port",
            "0",
            *options,
        ],
        cwd=ROOT,
        env={**clean, "LOGIC_CONFIG_PATH": str(tmp_path / "logic.yaml"), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ready."):
                ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        eventually(lambda: ready.is_set() or process.poll() is not None, within=90, what="up is ready")
        assert ready.is_set(), "".join(lines)
        yield Service(process, data_dir, lines)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        status = process.wait(100)
        reader.join(10)
        assert process.stdout is not None
        process.stdout.close()
    assert status in (0, -signal.SIGKILL), "".join(lines)
