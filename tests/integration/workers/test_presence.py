"""Friction 1: a Celery worker says that it is there and what it takes, also while it has nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.wire.token import MintRequest
from tests.conftest import LOCAL_LOGIC
from tests.integration.workers.test_celery_over_http import celery_worker, eventually

E5 = "multilingual-e5-small"
PAIRS = {(kind, E5) for kind in ("embedding", "rerank", "classify")}


@pytest.fixture
def served(core: Core) -> Callable[[], set[tuple[str, str]]]:
    """The pairs that workers take which were seen in the last 15 seconds."""

    def read() -> set[tuple[str, str]]:
        core.presence.flush()
        seen = "SELECT task_type, model FROM compute_workers WHERE seen_at > now() - interval '15 seconds'"
        with core.database.connection() as connection:
            return {(row[0], row[1]) for row in connection.execute(text(seen))}

    return read


@pytest.fixture
def over_sql(database_url: str, valkey: Valkey) -> dict[str, str]:
    return {"REDIS_URL": valkey.url, "DATABASE_URL": database_url, "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC)}


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_an_idle_worker_over_sql_says_what_it_takes(
    served: Callable[[], Any], over_sql: dict[str, str], tmp_path: Path, core: Core, pool: str
) -> None:
    with celery_worker("idle", tmp_path / "log", pool=pool, **over_sql):
        eventually(lambda: served() == PAIRS, "the worker is seen")
        with core.database.connection() as connection:
            connection.execute(text("UPDATE compute_workers SET seen_at = seen_at - interval '1 hour'"))

        eventually(lambda: served() == PAIRS, "it is seen again")

    with core.database.connection() as connection:
        names = connection.execute(text("SELECT DISTINCT credential, worker_id FROM compute_workers")).all()
    assert [tuple(name) for name in names] == [("celery", "idle@test")]


def test_an_idle_worker_over_http_says_what_it_takes(
    served: Callable[[], Any], core: Core, facade_url: str, valkey: Valkey, tmp_path: Path
) -> None:
    token = core.tokens.mint(MintRequest(name="gpu", task_types=["embedding", "rerank"]), created_by="anna")
    environment = {
        "REDIS_URL": valkey.url,
        "GIFTY_COMPUTE_URL": facade_url,
        "GIFTY_WORKER_TOKEN": token.token,
    }

    with celery_worker("idle", tmp_path / "log", **environment):
        eventually(lambda: served(), "the worker is seen")

    assert served() == {("embedding", E5), ("rerank", E5)}
    # Flower has it from Celery itself.
    assert core.fleet.precisions() == {}


def test_a_worker_takes_only_what_it_consumes(
    served: Callable[[], Any], over_sql: dict[str, str], tmp_path: Path
) -> None:
    with celery_worker("one", tmp_path / "log", options=("-Q", f"rerank.{E5},maintain"), **over_sql):
        eventually(lambda: served(), "the worker is seen")

        assert served() == {("rerank", E5)}


def test_a_worker_that_lost_its_broker_is_not_told_of_work_and_so_takes_none(
    served: Callable[[], Any], over_sql: dict[str, str], tmp_path: Path, core: Core
) -> None:
    broker = Valkey(tmp_path / "valkey")
    broker.start()
    try:
        with celery_worker("deaf", tmp_path / "log", **{**over_sql, "REDIS_URL": broker.url}):
            eventually(lambda: served() == PAIRS, "the worker is seen")
            broker.child.stop()
            eventually(lambda: served() == set(), "it is seen no more")
            broker.child.start()
            eventually(lambda: served() == PAIRS, "it is seen again")
    finally:
        broker.stop()
