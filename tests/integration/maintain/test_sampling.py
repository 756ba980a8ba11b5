"""Samples of the queue: which process makes them, what they count, and how few pages they read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from gifty_compute.maintain.sampling import Sampling
from gifty_compute.queue.database import Database
from gifty_compute.queue.presence import LIVE_SECONDS
from gifty_compute.queue.samples import MOST_QUEUES, QueueSamples, Sample
from gifty_compute.queue.sql import QUERIES
from tests.unit.conftest import HandClock

MODEL = "multilingual-e5-small"
ROWS = 100_000


@pytest.fixture
def run(database_url: str) -> Iterator[Callable[..., list[Any]]]:
    """Runs a statement; gives its rows."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO compute_maintenance (passed_at) VALUES (now())")

        def execute(statement: str, *parameters: Any) -> list[Any]:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

        yield execute
    connection.close()


@pytest.fixture
def fill(run: Callable[..., list[Any]]) -> Callable[..., None]:
    """Inserts rows of the queue."""

    def insert(rows: int, *, model: str | None = MODEL, **columns: Any) -> None:
        names = ["model", *columns]
        run(
            f"INSERT INTO compute_tasks (task_type, payload, {', '.join(names)})"
            f""" SELECT 'embedding', '{{"texts": ["чай"]}}', {", ".join(["%s"] * len(names))}"""
            " FROM generate_series(1, %s)",
            model,
            *columns.values(),
            rows,
        )

    return insert


@pytest.fixture
def sample(database: Database, run: Callable[..., list[Any]]) -> Callable[[], Sample]:
    """Makes a sample, six seconds after the last, and reads it."""

    def make() -> Sample:
        for table in ("compute_maintenance", "compute_samples"):
            run(f"UPDATE {table} SET sampled_at = sampled_at - interval '6 seconds'")
        with database.connection() as connection:
            Sampling(database, SystemClock()).run(connection)
        return QueueSamples(database, SystemClock()).newest()

    return make


def test_every_state_is_counted_for_its_task_type_and_model(
    fill: Callable[..., None], sample: Callable[[], Sample], run: Callable[..., list[Any]]
) -> None:
    fill(3, created_at="2020-01-01")
    fill(2, suspect=True, lane="another")
    fill(4, available_at="2099-01-01")
    fill(5, status="processing", worker_id="w", credential="c", lease_expires_at="2099-01-01")
    fill(6, status="completed", completed_at="2020-01-01")
    fill(7, model="bge-m3", lane="shop")
    fill(8, model=None)

    found = {one.name: one for one in sample().queues}

    e5, bge, unplaced = found[f"embedding/{MODEL}"], found["embedding/bge-m3"], found["embedding/"]
    assert (e5.ready, e5.delayed, e5.processing, e5.workers) == (5, 4, 5, 1)
    assert (e5.done_total, e5.failed_total) == (0, 0)
    assert e5.oldest_seconds > 5 * 365 * 86_400
    assert (bge.ready, bge.workers, unplaced.ready) == (7, 0, 8)
    assert 0 <= bge.oldest_seconds < 60


def test_the_age_is_of_the_oldest_of_all_clients_and_a_retry_by_hand_begins_anew(
    fill: Callable[..., None], sample: Callable[[], Sample]
) -> None:
    fill(2, lane="b")
    fill(1, lane="c", priority="high", created_at="2020-01-01", updated_at="now", generation=2)
    young = sample().queues[0].oldest_seconds
    fill(1, lane="d", created_at="2020-01-01")

    assert young < 60
    assert sample().queues[0].oldest_seconds > 5 * 365 * 86_400


def test_a_pass_of_maintain_samples_whichever_process_makes_it(core: Core) -> None:
    core.maintainer.run_pass()

    assert core.samples.newest().is_fresh


def test_what_another_process_sampled_just_now_is_not_sampled_again(
    database: Database, fill: Callable[..., None], run: Callable[..., list[Any]]
) -> None:
    fill(1)
    for _ in range(2):
        with database.connection() as connection:
            Sampling(database, SystemClock()).run(connection)

    assert run("SELECT count(*), count(DISTINCT sampled_at) FROM compute_samples") == [(1, 1)]


def test_one_process_samples_every_five_seconds(
    database: Database, fill: Callable[..., None], run: Callable[..., list[Any]]
) -> None:
    clock = HandClock()
    step = Sampling(database, clock)
    fill(1)
    made = []

    for _ in range(5):
        with database.connection() as connection:
            step.run(connection)
        made.append(run("SELECT count(DISTINCT sampled_at) FROM compute_samples")[0][0])
        run("UPDATE compute_maintenance SET sampled_at = sampled_at - interval '2 seconds'")
        clock.advance(2)

    assert made == [1, 1, 1, 2, 2]


def test_samples_are_kept_for_a_day_and_silent_workers_for_an_hour(
    fill: Callable[..., None], sample: Callable[[], Sample], run: Callable[..., list[Any]]
) -> None:
    fill(1)
    sample()
    run("UPDATE compute_samples SET sampled_at = now() - interval '24 hours'")
    run(
        "INSERT INTO compute_workers (credential, worker_id, task_type, model, seen_at)"
        " VALUES ('c', 'old', 'embedding', 'm', now() - interval '61 minutes'),"
        " ('c', 'silent', 'embedding', 'm', now() - interval '59 minutes')"
    )

    sample()

    assert run("SELECT count(*) FROM compute_samples") == [(1,)]
    assert run("SELECT worker_id FROM compute_workers") == [("silent",)]


def test_an_end_is_counted_once_and_by_its_model(
    fill: Callable[..., None], sample: Callable[[], Sample], run: Callable[..., list[Any]]
) -> None:
    sample()
    fill(3, status="completed", completed_at="now")
    fill(2, status="failed", completed_at="now")
    fill(4, status="cancelled", completed_at="now")
    just_now = sample()
    run("UPDATE compute_tasks SET completed_at = completed_at - interval '6 seconds'")

    settled = [sample().queues[0] for _ in range(1)]
    run("UPDATE compute_tasks SET completed_at = completed_at - interval '6 seconds'")
    settled.append(sample().queues[0])

    assert just_now.queues == ()
    assert [(one.done_total, one.failed_total) for one in settled] == [(3, 2)] * 2
    assert run("SELECT sum(done), sum(failed) FROM compute_samples") == [(3, 2)]


def test_more_queues_than_a_sample_holds_make_it_partial_and_it_is_sure_of_those_alone(
    fill: Callable[..., None], sample: Callable[[], Sample], run: Callable[..., list[Any]]
) -> None:
    run(
        "INSERT INTO compute_tasks (task_type, payload, model)"
        " SELECT 'llm', '{}', 'groq/m' || n FROM generate_series(1, %s) AS n",
        MOST_QUEUES + 100,
    )

    found = sample()

    named = {one.model for one in found.queues}
    assert len(named) == MOST_QUEUES
    assert found.is_partial
    assert found.has_no_worker("llm", min(named))
    assert not found.has_no_worker("llm", "groq/beyond")


def explained(database: Database, run: Callable[..., list[Any]]) -> tuple[int, set[str]]:
    """The shared pages that a sample reads or finds, and how tables are gone through."""
    limits = {"enough": 100_001, "most_queues": 200, "most_lanes": 100, "live": LIVE_SECONDS, "settled": 2.0}
    run("UPDATE compute_maintenance SET sampled_at = now() - interval '5 seconds'")
    with database.connection() as connection:
        bound = QUERIES["sample"].text
        for name, value in limits.items():
            bound = bound.replace(f":{name}", str(value))
        [plan] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {bound}").scalar_one()
    scans: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "compute_tasks":
            scans.add(f"{node['Node Type']} {node.get('Index Name', '')}")
        for child in node.get("Plans", ()):
            walk(child)

    walk(plan["Plan"])
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], scans


def test_a_sample_reads_no_more_beside_a_hundred_thousand_ended_rows(
    database: Database, fill: Callable[..., None], run: Callable[..., list[Any]]
) -> None:
    fill(20)
    run("VACUUM ANALYZE compute_tasks")
    few, _ = explained(database, run)
    for status in ("completed", "failed"):
        fill(ROWS // 2, status=status, completed_at="2020-01-01")
    run("VACUUM ANALYZE compute_tasks")

    many, scans = explained(database, run)

    assert many <= few + 20, (few, many)
    assert {scan.rpartition(" ")[2] for scan in scans} == {
        "ix_compute_tasks_ready",
        "ix_compute_tasks_suspect",
        "ix_compute_tasks_unplaced",
        "ix_compute_tasks_delayed",
        "ix_compute_tasks_lease",
        "ix_compute_tasks_ended",
    }


def test_a_sample_of_a_long_queue_reads_its_index_and_not_its_rows(
    database: Database, fill: Callable[..., None], run: Callable[..., list[Any]]
) -> None:
    fill(ROWS)
    run("VACUUM ANALYZE compute_tasks")

    pages, _ = explained(database, run)

    assert pages < ROWS / 50
