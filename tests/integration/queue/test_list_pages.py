"""What a list reads: a few pages of its own client's rows, whatever another client has."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from gifty_compute.queue.database import Database
from gifty_compute.queue.sql import QUERIES

ROWS = 100_000
# Each of the rows of a page is found in an index, read by its key, and looked up among the vectors.
MOST_TO_FIND, MOST_A_ROW = 20, 12
FIND = {"limit": 10, "most_numbers": 10**9, "before": None}


@pytest.fixture
def crowded(database: Database) -> Database:
    """A client with a hundred thousand ended tasks, newer than the ten of another."""
    fill(database, "corner", 10)
    fill(database, "shop", ROWS)
    return database


def fill(database: Database, lane: str, rows: int) -> None:
    sql = (
        "INSERT INTO compute_tasks (task_type, payload, lane, model, status, completed_at)"
        " SELECT 'embedding', '{}', :lane, 'm',"
        " CASE n % 5 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END, now()"
        " FROM generate_series(1, :rows) AS n"
    )
    with database.connection() as connection:
        connection.execute(text(sql), {"lane": lane, "rows": rows})
        connection.execute(text("VACUUM ANALYZE compute_tasks"))


def pages(database: Database, **parameters: Any) -> tuple[int, int]:
    """Rows that a list gives, and shared pages that it reads."""
    explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES['list'].text}")
    with database.connection() as connection:
        [explained] = connection.execute(explain, {**FIND, **parameters}).scalar_one()
    plan = explained["Plan"]
    return int(plan["Actual Rows"]), int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_a_list_reads_few_pages_beside_a_client_with_many_tasks(crowded: Database) -> None:
    of_the_small = {None: 10, "completed": 6, "failed": 2, "cancelled": 2, "processing": 0}

    for status, count in of_the_small.items():
        for clients in (["corner"], ["absent"], ["corner", "absent", ""]):
            found, read = pages(crowded, clients=clients, status=status, task_type=None)
            assert found == (count if "corner" in clients else 0), (clients, status)
            assert read <= MOST_TO_FIND + MOST_A_ROW * 10, (clients, status, read)
    for status in (None, "completed", "failed", "cancelled"):
        found, read = pages(crowded, clients=["corner", "shop"], status=status, task_type=None)
        assert found == 10
        assert read <= MOST_TO_FIND + MOST_A_ROW * 20, (status, read)
