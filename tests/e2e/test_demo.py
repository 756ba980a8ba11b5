"""`gifty-compute demo`, as `make run` runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from gifty_compute.demo.catalogue import QUESTIONS
from tests.conftest import ROOT


@pytest.mark.timeout(200)
def test_the_demo_embeds_every_product_once_by_both_workers_and_answers() -> None:
    env = {**os.environ, "COLUMNS": "120", "DATABASE_URL": "postgresql://nowhere.invalid/never-touched"}

    done = subprocess.run(
        [sys.executable, "-m", "gifty_compute.commands", "demo"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"products embedded\s+│ (\d+) of \1 ", done.stdout), done.stdout
    for worker in (r"by celery-1@\S+", "by poll-1"):
        found = re.search(worker + r"\s+│ (\d+)", done.stdout)
        assert found, done.stdout
        assert int(found[1]) > 0
    assert re.search(r"failed\s+│ 0 ", done.stdout)
    assert re.search(r"begun more than once\s+│ 0 ", done.stdout)
    for question, category in QUESTIONS.items():
        best_five = done.stdout.partition(f"«{question}»")[2].partition("└")[0]
        assert best_five.count("│ 0.") == 5, best_five
        assert category in best_five, best_five
