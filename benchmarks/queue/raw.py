"""The queue's work by the bare driver: what a statement costs when nothing is checked around it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg2.extras

from benchmarks.queue.stand import KIND, MODEL, PAYLOAD, RESULT, Stand

__all__ = ["claim", "complete", "insert", "insert_many"]

psycopg2.extras.register_uuid()

_COLUMNS = "task_type, payload, model, tokens, lane"
_INSERT = f"INSERT INTO compute_tasks ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s) RETURNING *"
_INSERT_MANY = f"INSERT INTO compute_tasks ({_COLUMNS}) VALUES %s"
# The least that a claim may be: in claim order by the same index, one client's lane or many.
_CLAIM = """
UPDATE compute_tasks AS t
SET status = 'processing', attempt = t.attempt + 1, credential = 'bench', worker_id = %(worker)s,
    started_at = now(), updated_at = now(), lease_seconds = 90, lease_expires_at = now() + interval '90 s'
FROM (
    SELECT id
    FROM compute_tasks
    WHERE status = 'pending' AND available_at IS NULL AND NOT suspect AND model IS NOT NULL
      AND task_type = %(kind)s AND model = %(model)s
    ORDER BY rank, lane, seq
    LIMIT 100
    FOR UPDATE SKIP LOCKED
) AS picked
WHERE t.id = picked.id
RETURNING t.*
"""
_COMPLETE = """
UPDATE compute_tasks AS t
SET status = 'completed', result = said.result, completed_at = now(), updated_at = now(),
    lease_expires_at = NULL
FROM unnest(%(ids)s, CAST(%(attempts)s AS int[]), CAST(%(results)s AS jsonb[])) AS said (id, attempt, result)
WHERE t.id = said.id AND t.attempt = said.attempt AND t.status = 'processing'
RETURNING t.id
"""


def _row() -> tuple[Any, ...]:
    return KIND, psycopg2.extras.Json(PAYLOAD), MODEL, 8, "bench"


def insert(stand: Stand) -> None:
    """One row, committed."""
    stand.cursor.execute(_INSERT, _row())
    stand.cursor.fetchall()
    stand.bare.commit()


def insert_many(stand: Stand, rows: int) -> None:
    """execute_values, a thousand rows a statement, committed once."""
    psycopg2.extras.execute_values(stand.cursor, _INSERT_MANY, [_row() for _ in range(rows)], page_size=1000)
    stand.bare.commit()


def claim(stand: Stand) -> list[tuple[Any, ...]]:
    """A hundred rows, all columns, committed."""
    stand.cursor.execute(_CLAIM, {"worker": f"w-{uuid4()}", "kind": KIND, "model": MODEL})
    rows = stand.cursor.fetchall()
    stand.bare.commit()
    return rows


def complete(stand: Stand, rows: list[tuple[Any, ...]]) -> int:
    """All of them with their results, in one statement; how many."""
    names = [column.name for column in stand.cursor.description]
    at = {name: names.index(name) for name in ("id", "attempt")}
    parameters = {
        "ids": [row[at["id"]] for row in rows],
        "attempts": [row[at["attempt"]] for row in rows],
        "results": [psycopg2.extras.Json(RESULT) for _ in rows],
    }
    stand.cursor.execute(_COMPLETE, parameters)
    done = len(stand.cursor.fetchall())
    stand.bare.commit()
    return done
