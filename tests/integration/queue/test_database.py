"""The connection to PostgreSQL: pooled without a ping, hot statements prepared."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from gifty_compute.errors import GiftyComputeError, InvalidConfig, StoreUnavailable
from gifty_compute.logic.logic import Logic
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.prepared import PREPARED
from gifty_compute.queue.sql import QUERIES
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import Holder, SubmitRequest, Want

ORIGIN = Origin(client="shop")
HOLDER = Holder(worker_id="alice", credential="shared")
REQUEST = SubmitRequest(task_type="embedding", payload={"texts": ["чай"]})


@pytest.fixture
def single(empty_database_url: str) -> Iterator[Database]:
    """A migrated database of its own behind one connection."""
    database = connect(empty_database_url, pool_size=1)
    migrate(database.engine)
    yield database
    database.close()


@pytest.fixture
def store(single: Database, logic: Logic) -> TaskStore:
    return TaskStore(single, lambda: logic)


@pytest.fixture
def leases(single: Database, logic: Logic) -> LeaseStore:
    return LeaseStore(single, lambda: logic, Random(7))


def _one(database: Database, sql: str) -> int:
    with database.connection() as connection:
        return int(connection.execute(text(sql)).scalar_one())


def _work(store: TaskStore, leases: LeaseStore) -> None:
    """Every hot verb once."""
    submitted, _ = store.submit(REQUEST, ORIGIN)
    [task] = leases.claim(HOLDER, Want(task_types=("embedding",))).tasks
    assert task.id == submitted.id
    assert leases.extend(HOLDER, []).lost == ()
    assert store.find([task.id])[task.id] == task
    done = leases.complete(HOLDER, task, {"embeddings": [[1.0] * 384]})
    assert done.status == "completed"


def test_a_connection_that_the_server_has_left_is_replaced_unnoticed(
    single: Database, store: TaskStore, leases: LeaseStore, empty_database_url: str
) -> None:
    _work(store, leases)
    left = _one(single, "SELECT pg_backend_pid()")
    operator = psycopg2.connect(empty_database_url)
    with operator, operator.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (left,))
    operator.close()

    _work(store, leases)

    assert _one(single, "SELECT pg_backend_pid()") != left


def test_a_slow_database_keeps_no_more_threads_waiting_than_it_may(empty_database_url: str) -> None:
    """K8: requests that need the database must not take the threads of those that do not."""
    database = connect(empty_database_url, pool_size=1, most_waiting=1)
    with ThreadPoolExecutor(1) as threads:
        with database.connection():
            waiting = threads.submit(_one, database, "SELECT 1")
            pause = threading.Event()
            for _ in range(1000):
                if not database._line._value:
                    break
                pause.wait(0.01)
            with pytest.raises(StoreUnavailable, match="too many requests wait for a database connection"):
                _one(database, "SELECT 1")
        found = waiting.result(20)
    again = _one(database, "SELECT 1")
    database.close()

    assert (found, again) == (1, 1)


def test_hot_statements_are_planned_once_a_connection(
    single: Database, store: TaskStore, leases: LeaseStore
) -> None:
    _work(store, leases)
    _work(store, leases)

    assert _one(single, "SELECT count(*) FROM pg_prepared_statements") == len(PREPARED)
    assert _one(single, "SELECT sum(custom_plans) FROM pg_prepared_statements") == 0
    assert _one(single, "SELECT min(generic_plans) FROM pg_prepared_statements") == 2


def test_a_later_migration_may_add_a_column_under_prepared_statements(
    single: Database, store: TaskStore, leases: LeaseStore, empty_database_url: str
) -> None:
    _work(store, leases)
    newer = psycopg2.connect(empty_database_url)
    with newer, newer.cursor() as cursor:
        cursor.execute("ALTER TABLE compute_tasks ADD COLUMN later text NOT NULL DEFAULT 'x'")
    newer.close()

    _work(store, leases)


WORD = "kanarejka"
STATEMENTS = {
    "submit": dict.fromkeys(re.findall(r"(?<!:):(\w+)", QUERIES["submit"].text), WORD),
    "stored": {"id": WORD},
    "mint_token": {
        **dict.fromkeys(("name", "trust", "created_by"), WORD),
        "id": "b" * 32,
        "hash": None,
        "task_types": [WORD],
        "expires_in_days": None,
        "score_scale": None,
    },
}


@pytest.mark.parametrize("query", STATEMENTS)
def test_what_postgresql_refuses_is_not_quoted(single: Database, query: str) -> None:
    """Its own words quote values and rows, of a prepared statement and of any other."""
    with pytest.raises(GiftyComputeError, match="PostgreSQL refused: ") as refused:
        single.rows(query, **STATEMENTS[query])

    assert WORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("dsn", [f"postgresql://u:p@h:{WORD}/db", WORD, f"postgresql://u:{WORD}@h:5x/d"])
def test_an_address_that_cannot_be_read_is_refused_and_not_quoted(dsn: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        connect(dsn)

    assert WORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("through", ["the driver", "SQLAlchemy"])
def test_an_answer_that_breaks_off_without_a_word_is_the_databases_absence(
    single: Database, through: str
) -> None:
    """libpq's own error, seen once in six immediate restarts of PostgreSQL: it has no SQLSTATE."""
    broken = psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq")

    with pytest.raises(StoreUnavailable), single.connection():
        raise broken if through == "the driver" else DatabaseError("SELECT 1", None, broken)


def test_a_fault_of_ours_is_not_taken_for_the_databases_absence(single: Database) -> None:
    with pytest.raises(GiftyComputeError) as caught, single.connection():
        raise psycopg2.ProgrammingError("can't adapt type 'set'")

    assert not isinstance(caught.value, StoreUnavailable)
