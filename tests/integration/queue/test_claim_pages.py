"""What a claim reads: few pages at a hundred thousand rows, whatever else waits beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg2
import pytest

from gifty_compute.clock import SystemClock
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.sql import QUERIES
from gifty_compute.wire.task import Holder, Want

ROWS = 100_000
MODEL = "multilingual-e5-small"
WANT = Want(task_types=("embedding",), models=(MODEL,), limit=10)

MOST_TO_FIND = 100
# Besides, the update writes a version of each row and its entry in four indexes (key, seq, lease, holder),
# two or three pages deep each: twelve to sixteen pages a row, at any depth of the queue. It is some more
# where a new page begins or autovacuum runs beside.
MOST_IN_ALL = 300


@dataclass(frozen=True)
class Pages:
    """Shared pages, hit or read: until the rows are found, locked and picked; and of the whole statement."""

    found: int
    whole: int


class Claims(Database):
    """A database behind one connection, which knows by a first claim what is sent for it."""

    asked: dict[str, Any]

    @classmethod
    def begin(cls, dsn: str, logic: Logic) -> Claims:
        claims = cls(connect(dsn, pool_size=1).engine, SystemClock(), most_waiting=4)
        LeaseStore(claims, lambda: logic, Random(7)).claim(Holder(worker_id="w", credential="c"), WANT)
        return claims

    def rows(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        if query == "claim":
            self.asked = parameters
        return super().rows(query, **parameters)

    def pages(self, *, rows: int = 10) -> Pages:
        """Those of one more claim, which is made and explained; it finds so many rows."""
        with self.connection() as connection:
            statement = connection.info["prepared"][QUERIES["claim"].text]
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            [explained] = connection.exec_driver_sql(explain, self.asked).scalar_one()
        plan = explained["Plan"]
        assert plan["Actual Rows"] == rows
        picked = next(node for node in plan["Plans"] if node.get("Subplan Name") == "CTE picked")
        return Pages(_pages(picked), _pages(plan))

    def log_bytes(self) -> int:
        """What one more claim, of a hundred, writes to the log."""
        with self.connection() as connection:
            statement = connection.info["prepared"][QUERIES["claim"].text]
            explain = f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {statement}"
            [explained] = connection.exec_driver_sql(explain, {**self.asked, "limit": 100}).scalar_one()
        assert explained["Plan"]["Actual Rows"] == 100
        return int(explained["Plan"]["WAL Bytes"])


def _pages(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


@pytest.fixture
def claims(database_url: str, logic: Logic) -> Iterator[Callable[[], Claims]]:
    """Makes one; its statement is planned by what the table holds then."""
    with ExitStack() as stack:

        def begin() -> Claims:
            claims = Claims.begin(database_url, logic)
            stack.callback(claims.close)
            return claims

        yield begin


@pytest.fixture
def run(database_url: str) -> Iterator[Callable[..., None]]:
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor.execute
    connection.close()


@pytest.fixture
def fill(run: Callable[..., None]) -> Callable[..., None]:
    """Inserts pending rows."""

    def insert(rows: int, *, lane: str = "shop", model: str = MODEL, delay: str | None = None) -> None:
        run(
            "INSERT INTO compute_tasks (task_type, payload, lane, model, tokens, available_at)"
            """ SELECT 'embedding', '{"texts": ["чай"]}', %s, %s, 3, now() + CAST(%s AS interval)"""
            " FROM generate_series(1, %s)",
            (lane, model, delay, rows),
        )

    return insert


def test_a_claim_of_ten_among_a_hundred_thousand_reads_few_pages(
    fill: Callable[..., None], run: Callable[..., None], claims: Callable[[], Claims]
) -> None:
    beside: dict[str, dict[str, Any]] = {
        "nothing": {"rows": 0},
        "as many rows of another model": {"rows": ROWS, "model": "another"},
        "ten thousand delayed rows": {"rows": 10_000, "delay": "1 hour"},
        "a small client": {"rows": 100, "lane": "corner"},
    }
    fill(ROWS)

    read: dict[str, Pages] = {}
    for what, rows in beside.items():
        fill(**rows)
        run("VACUUM ANALYZE compute_tasks")
        read[what] = claims().pages()

    assert max(pages.found for pages in read.values()) <= MOST_TO_FIND, read
    assert max(pages.whole for pages in read.values()) <= MOST_IN_ALL, read


def test_a_claim_among_a_hundred_thousand_writes_little_more_log_than_among_a_thousand(
    fill: Callable[..., None], run: Callable[..., None], claims: Callable[[], Claims]
) -> None:
    # The first change of a page after a checkpoint writes all of it to the log.
    run("VACUUM compute_tasks")
    fill(1000)
    planned = claims()
    run("CHECKPOINT")
    short = planned.log_bytes()
    fill(ROWS)
    run("CHECKPOINT")

    assert planned.log_bytes() <= 2 * short


def test_a_claim_that_was_planned_on_an_empty_table_reads_as_few(
    fill: Callable[..., None], run: Callable[..., None], claims: Callable[[], Claims]
) -> None:
    run("VACUUM ANALYZE compute_tasks")
    planned = claims()
    fill(ROWS)

    pages = planned.pages()

    assert pages.found <= MOST_TO_FIND, pages
    assert pages.whole <= MOST_IN_ALL, pages


def test_a_claim_that_was_planned_on_a_short_queue_reads_as_few(
    fill: Callable[..., None], run: Callable[..., None], claims: Callable[[], Claims]
) -> None:
    # Statistics of many rows, a table of few: all of these would soon be read and sorted.
    fill(ROWS)
    fill(ROWS, model="another")
    run("VACUUM ANALYZE compute_tasks")
    run("TRUNCATE compute_tasks CASCADE")
    run("VACUUM compute_tasks")
    fill(1000)
    planned = claims()
    fill(ROWS)

    pages = planned.pages()

    assert pages.found <= MOST_TO_FIND, pages
    assert pages.whole <= MOST_IN_ALL, pages


def test_a_claim_does_not_read_past_what_has_ended(
    fill: Callable[..., None], run: Callable[..., None], claims: Callable[[], Claims]
) -> None:
    fill(ROWS)
    run("VACUUM ANALYZE compute_tasks")
    planned = claims()
    # The oldest have ended, and the statistics go on saying that all is pending.
    run(
        "UPDATE compute_tasks SET status = 'completed', completed_at = now()"
        " WHERE seq <= (SELECT max(seq) - 1000 FROM compute_tasks)"
    )
    run("VACUUM compute_tasks")

    pages = planned.pages()

    assert pages.found <= MOST_TO_FIND, pages
