"""The migration on real PostgreSQL: from nothing, from Gifty's own table, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import psycopg2
import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.logic import Logic
from gifty_compute.maintain.leases import Leases
from gifty_compute.maintain.placing import Placing
from gifty_compute.migrations import downgrade, migrate
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import Holder, SubmitRequest, Want

GIFTYS_TABLE = """
CREATE TABLE compute_tasks (
    id uuid NOT NULL,
    task_type varchar NOT NULL,
    priority varchar NOT NULL DEFAULT 'low',
    status varchar NOT NULL DEFAULT 'pending',
    payload jsonb NOT NULL,
    result jsonb,
    error text,
    worker_id varchar,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_compute_tasks PRIMARY KEY (id)
);
"""
# The same with every type that another backend might have chosen.
ODD_TABLE = """
CREATE TYPE taskstatus AS ENUM ('pending', 'processing', 'completed', 'failed');
CREATE TABLE compute_tasks (
    id uuid PRIMARY KEY,
    task_type varchar(50) NOT NULL,
    priority varchar(10) NOT NULL,
    status taskstatus NOT NULL DEFAULT 'pending',
    payload json NOT NULL,
    result json,
    error text,
    worker_id varchar(100),
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp,
    started_at timestamp,
    completed_at timestamp
);
"""


ROWS = """
CREATE INDEX ix_compute_tasks_status ON compute_tasks (status);
CREATE INDEX ix_compute_tasks_priority ON compute_tasks (priority);
CREATE INDEX ix_compute_tasks_task_type ON compute_tasks (task_type);
CREATE INDEX ix_compute_tasks_created_at ON compute_tasks (created_at);
INSERT INTO compute_tasks (id, task_type, priority, status, payload, updated_at) VALUES
    ('00000000-0000-0000-0000-000000000001', 'embedding', 'low', 'pending', '{"texts": ["чай"]}', now()),
    ('00000000-0000-0000-0000-000000000002', 'embedding', 'low', 'processing', '{"texts": ["кофе"]}', now());
INSERT INTO compute_tasks (id, task_type, priority, status, payload, result, updated_at) VALUES
    ('00000000-0000-0000-0000-000000000003', 'embedding', 'low', 'completed', '{"texts": ["сок"]}',
     '{"embeddings": [[1, 0]]}', now());
"""
TABLES = pytest.mark.parametrize("table", [GIFTYS_TABLE + ROWS, ODD_TABLE + ROWS], ids=["gifty's", "odd"])


@pytest.fixture
def sql(empty_database_url: str) -> Iterator[Any]:
    connection = psycopg2.connect(empty_database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


@pytest.fixture
def fresh(empty_database_url: str) -> Iterator[Database]:
    database = connect(empty_database_url)
    yield database
    database.close()


def maintain(database: Database, logic: Logic) -> None:
    with database.connection() as connection:
        for step in (Leases(database), Placing(database, lambda: logic, lambda: "backend")):
            step.run(connection)


def relations(sql: Any) -> set[str]:
    sql.execute("SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace")
    return {row[0] for row in sql.fetchall()}


def test_up_and_down_from_nothing_leave_nothing(fresh: Database, sql: Any) -> None:
    migrate(fresh.engine)
    assert "compute_tasks" in relations(sql)

    downgrade(fresh.engine, "base")

    assert relations(sql) <= {"gifty_compute_version", "gifty_compute_version_pkc"}


def test_migrating_twice_changes_nothing(fresh: Database, sql: Any) -> None:
    migrate(fresh.engine)
    before = relations(sql)

    migrate(fresh.engine)

    assert relations(sql) == before


@TABLES
def test_giftys_table_is_adopted_with_its_rows_and_without_its_indexes(
    fresh: Database, table: str, sql: Any
) -> None:
    sql.execute(table)

    migrate(fresh.engine)

    sql.execute("SELECT count(*) FROM compute_tasks")
    assert sql.fetchone() == (3,)
    found = relations(sql)
    assert "ix_compute_tasks_created_at" in found
    assert not found & {"ix_compute_tasks_status", "ix_compute_tasks_priority", "ix_compute_tasks_task_type"}


@TABLES
def test_adopted_rows_and_rows_by_sql_are_claimed_completed_and_readable(
    fresh: Database, table: str, sql: Any, logic: Logic
) -> None:
    sql.execute(table)
    migrate(fresh.engine)
    sql.execute(
        """INSERT INTO compute_tasks
           (id, task_type, priority, status, payload, result, error, worker_id,
            created_at, updated_at, started_at, completed_at)
           VALUES ('00000000-0000-0000-0000-000000000004', 'embedding', 'high', 'pending',
                   '{"texts": ["мёд", "сыр"]}', NULL, NULL, NULL, now(), now(), NULL, NULL)"""
    )
    store = TaskStore(fresh, lambda: logic)
    leases = LeaseStore(fresh, lambda: logic, Random(1))
    sent = np.random.default_rng(3).normal(size=(2, 384)).astype(np.float32)

    maintain(fresh, logic)
    claimed = leases.claim(Holder(worker_id="w"), Want()).tasks
    leases.complete(Holder(worker_id="w"), claimed[0], {"embeddings": sent.tolist()})

    assert [str(task.id)[-1] for task in claimed] == ["4", "1"]
    sql.execute(
        "SELECT result -> 'embeddings', vectors FROM compute_task_results WHERE id = %s", [str(claimed[0].id)]
    )
    as_json, as_bytes = sql.fetchone()
    np.testing.assert_array_equal(np.array(as_json, dtype=np.float32), sent)
    assert bytes(as_bytes) == sent.tobytes()
    sql.execute("SELECT result FROM compute_task_results WHERE id::text LIKE '%3'")
    assert sql.fetchone()[0] == {"embeddings": [[1, 0]]}
    assert store.stored(claimed[0].id).created_at.utcoffset() is not None


@TABLES
def test_an_adopted_task_in_work_gets_a_lease_and_comes_back(
    fresh: Database, table: str, sql: Any, logic: Logic
) -> None:
    sql.execute(table)
    migrate(fresh.engine)
    leases = LeaseStore(fresh, lambda: logic, Random(1))
    sql.execute(
        "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s' WHERE status = 'processing'"
    )

    maintain(fresh, logic)

    claimed = leases.claim(Holder(worker_id="w"), Want()).tasks
    assert sorted(str(task.id)[-1] for task in claimed) == ["1", "2"]


@TABLES
@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_an_adopted_task_in_work_is_ended_by_the_worker_that_has_it(
    fresh: Database, table: str, sql: Any, logic: Logic, outcome: str
) -> None:
    sql.execute(table)
    migrate(fresh.engine)
    store = TaskStore(fresh, lambda: logic)
    leases = LeaseStore(fresh, lambda: logic, Random(1))
    holder = Holder(worker_id="kaggle", credential="shared")
    task = store.stored(UUID(int=2)).model_copy(update={"attempt": 0})

    if outcome == "completed":
        ended = leases.complete(holder, task, {"embeddings": [[0.5] * 384]})
    else:
        ended = leases.fail(holder, task, "out of memory")

    assert ended.status == ("completed" if outcome == "completed" else "pending")
    assert ended.model == ("multilingual-e5-small" if outcome == "completed" else None)


def test_a_row_by_sql_that_breaks_the_rules_ends_with_the_reason(
    fresh: Database, sql: Any, logic: Logic
) -> None:
    migrate(fresh.engine)
    rows = [
        ("embedding", {"texts": []}),
        ("soup", {}),
        ("embedding", {"texts": ["a"], "model": "nonesuch"}),
        ("embedding", {"texts": ["a", "", "b", " "]}),
    ]
    for task_type, payload in rows:
        sql.execute(
            "INSERT INTO compute_tasks (task_type, payload) VALUES (%s, %s)", [task_type, json.dumps(payload)]
        )

    maintain(fresh, logic)

    sql.execute("SELECT status, error FROM compute_tasks ORDER BY seq")
    found = sql.fetchall()
    assert [status for status, _ in found] == ["failed"] * 4
    assert "payload.texts" in found[0][1]
    assert "soup" in found[1][1]
    assert "unknown_model" in found[2][1]
    assert "payload.texts.1, payload.texts.3: text is empty" in found[3][1]  # F3


@TABLES
def test_giving_an_adopted_table_back_restores_indexes_and_keeps_results(
    fresh: Database, table: str, sql: Any, logic: Logic
) -> None:
    sql.execute(table)
    migrate(fresh.engine)
    store = TaskStore(fresh, lambda: logic)
    leases = LeaseStore(fresh, lambda: logic, Random(1))
    task, _ = store.submit(
        SubmitRequest(task_type="embedding", payload={"texts": ["a"]}), Origin(client="shop")
    )
    (claimed,) = leases.claim(Holder(worker_id="w"), Want(ids=(task.id,))).tasks
    leases.complete(Holder(worker_id="w"), claimed, {"embeddings": [[0.5] * 384]})

    downgrade(fresh.engine, "base")

    assert {"ix_compute_tasks_status", "ix_compute_tasks_priority"} <= relations(sql)
    sql.execute("SELECT result -> 'embeddings' FROM compute_tasks WHERE id = %s", [str(task.id)])
    assert sql.fetchone()[0] == [[0.5] * 384]
    migrate(fresh.engine)
    assert store.stored(task.id).status == "completed"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE compute_tasks ALTER COLUMN id TYPE text", "uuid"),
        ("ALTER TABLE compute_tasks DROP COLUMN worker_id", "worker_id"),
        (
            "ALTER TABLE compute_tasks ALTER COLUMN status TYPE text, ALTER COLUMN status DROP DEFAULT;"
            "UPDATE compute_tasks SET status = 'DONE' WHERE result IS NOT NULL",
            "DONE",
        ),
    ],
)
def test_a_table_that_is_not_giftys_is_left_as_it_is(
    fresh: Database, sql: Any, change: str, named: str
) -> None:
    sql.execute(GIFTYS_TABLE + ROWS)
    sql.execute(change)
    before = relations(sql)

    with pytest.raises(InvalidConfig, match=named):
        migrate(fresh.engine)

    assert relations(sql) == before


@pytest.mark.parametrize(
    ("dtype", "edges"),
    [("float16", [6e-8, -65504, 0, -6.1e-5]), ("float32", [1e-45, -3.4028235e38, 0, -1.2e-38])],
)
def test_vectors_read_the_same_through_the_view_to_the_last_bit(
    fresh: Database, sql: Any, logic: Logic, dtype: str, edges: list[float]
) -> None:
    migrate(fresh.engine)
    store = TaskStore(fresh, lambda: logic)
    leases = LeaseStore(fresh, lambda: logic, Random(1))
    store.submit(SubmitRequest(task_type="embedding", payload={"texts": ["a"]}), Origin(client="shop"))
    (task,) = leases.claim(Holder(worker_id="w"), Want()).tasks
    sent = np.random.default_rng(5).normal(size=(1, 384)).astype(dtype)
    sent[0, :4] = edges

    leases.complete(Holder(worker_id="w"), task, {"embeddings": sent})

    sql.execute("SELECT result -> 'embeddings' FROM compute_task_results")
    np.testing.assert_array_equal(np.array(sql.fetchone()[0], dtype=dtype), sent)
