"""`gifty-compute tokens`, as an operator runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from gifty_compute.queue.database import Database
from gifty_compute.queue.tokens import WorkerTokens
from tests.conftest import LOCAL_LOGIC, ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database_url: str) -> Run:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        own = {"LOGIC_CONFIG_PATH": str(LOCAL_LOGIC), "COLUMNS": "200", "DATABASE_URL": database_url}
        return subprocess.run(
            [sys.executable, "-m", "gifty_compute.commands", "tokens", *arguments],
            cwd=ROOT,
            env={**keep, **own, **env},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def test_a_token_is_made_shown_in_the_list_and_revoked(run: Run, database: Database) -> None:
    made = run("create", "kaggle-1", "--task-type", "embedding", "--trust", "untrusted", "--days", "7")
    listed = run("list")
    found = WorkerTokens(database).find(made.stdout.strip())
    revoked = run("revoke", "kaggle-1")
    listed_then = run("list")

    assert made.returncode == listed.returncode == revoked.returncode == 0, made.stderr + listed.stderr
    assert found is not None
    assert (found.task_types, found.trust, found.created_by) == (("embedding",), "untrusted", "cli")
    assert made.stdout.strip() not in listed.stdout
    assert all(word in listed.stdout for word in ("kaggle-1", str(found.id), "untrusted", "valid"))
    assert "revoked" in revoked.stdout
    assert "revoked" in listed_then.stdout
    assert WorkerTokens(database).find(made.stdout.strip()) is None


def test_a_token_may_say_what_scale_its_notebook_scores_on(run: Run, database: Database) -> None:
    """F6."""
    made = run("create", "kaggle-1", "--score-scale", "0-1")
    found = WorkerTokens(database).find(made.stdout.strip())

    assert found is not None
    assert found.score_scale == "0-1"


def test_a_token_can_be_revoked_by_its_id(run: Run, database: Database) -> None:
    run("create", "kaggle-1")
    [token] = WorkerTokens(database).list()

    assert run("revoke", str(token.id)).returncode == 0
    [token] = WorkerTokens(database).list()
    assert token.revoked_at is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "a b"], "name"),
        (["create", "a", "--task-type", "soup"], "there is no task type 'soup'"),
        (["revoke", "nobody"], "there is no worker token 'nobody'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run: Run, arguments: list[str], says: str) -> None:
    ended = run(*arguments)

    assert ended.returncode == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_database_it_says_so(run: Run) -> None:
    ended = run("list", DATABASE_URL="")

    assert ended.returncode == 1
    assert "DATABASE_URL is not set" in ended.stderr
