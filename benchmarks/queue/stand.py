"""The stand: one PostgreSQL and one Valkey, the queue's stores over them, and the bare driver beside."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

import orjson
import psycopg2
import psycopg2.extras
from celery import Celery
from redis import Redis

from benchmarks.servers import stores
from gifty_compute.clock import SystemClock
from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.logic.source import parse_logic
from gifty_compute.migrations import migrate
from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.batches import BatchStore
from gifty_compute.queue.broker import broker_url
from gifty_compute.queue.database import connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.queue.upload import Upload, UploadLimits
from gifty_compute.wire.task import Holder, Outcome, Task, Want

__all__ = ["Stand", "finish", "holder", "stand", "upload"]

LOGIC = "llm: {default_provider: groq}"
KIND, MODEL = "llm", "fast"
PAYLOAD = {"messages": [{"role": "user", "content": "Что подарить рыбаку на юбилей?"}], "max_tokens": 100}
RESULT = {"content": "Удочку.", "usage": {"input_tokens": 12, "output_tokens": 4}}
ORIGIN = Origin(client="bench")
WANT = Want(task_types=(KIND,), models=(MODEL,), limit=100)

_FILL = """
INSERT INTO compute_tasks (task_type, payload, model, tokens, lane)
SELECT %s, %s, %s, 8, 'bench' FROM generate_series(1, %s)
"""


class Stand:
    """The queue's own stores on a database, and a connection of the bare driver to the same."""

    def __init__(self, postgres: Postgres, valkey: Valkey, dsn: str) -> None:
        self.postgres, self.valkey, self.dsn = postgres, valkey, dsn
        logic = parse_logic(LOGIC)
        self.database = connect(dsn)
        migrate(self.database.engine)
        self.store = TaskStore(self.database, lambda: logic)
        self.leases = LeaseStore(self.database, lambda: logic, Random(1))
        self.batches = BatchStore(self.database, lambda: logic, SystemClock(), lambda _: None)
        self.redis = Redis.from_url(valkey.url)
        self.celery = Celery("bench", broker=broker_url(valkey.url), set_as_current=False)
        self.announcer = Announcer(self.celery, SystemClock())
        self.bare = psycopg2.connect(dsn)
        self.cursor = self.bare.cursor()

    @contextmanager
    def beside(self, name: str) -> Iterator[Stand]:
        """A stand on another database of the same server."""
        self.create_database(name)
        other = Stand(self.postgres, self.valkey, self.dsn_of(name))
        try:
            yield other
        finally:
            other.close()

    def create_database(self, name: str) -> None:
        self.bare.autocommit = True
        self.cursor.execute(f"CREATE DATABASE {name}")
        self.bare.autocommit = False

    def dsn_of(self, name: str) -> str:
        return self.dsn.replace("/gifty?", f"/{name}?")

    def close(self) -> None:
        self.bare.close()
        self.celery.close()
        self.redis.close()
        self.database.close()

    def fill(self, rows: int) -> None:
        """So many more pending tasks."""
        self.cursor.execute("SET synchronous_commit = off")
        for start in range(0, rows, 100_000):
            more = min(100_000, rows - start)
            self.cursor.execute(_FILL, (KIND, psycopg2.extras.Json(PAYLOAD), MODEL, more))
            self.bare.commit()
        self.cursor.execute("SET synchronous_commit = on")
        self.bare.commit()

    def empty(self) -> None:
        """No task, no batch, no message."""
        self.cursor.execute("TRUNCATE compute_tasks, compute_batches, compute_claims CASCADE")
        self.bare.commit()
        self.redis.flushall()

    def vacuum(self) -> None:
        """What autovacuum would have done in a while."""
        self.bare.autocommit = True
        self.cursor.execute("VACUUM ANALYZE compute_tasks")
        self.bare.autocommit = False

    def checkpoint(self) -> None:
        """All that has changed on this server is written."""
        self.bare.autocommit = True
        self.cursor.execute("CHECKPOINT")
        self.bare.autocommit = False

    def log_bytes(self, case: Callable[[], object]) -> int:
        """What the server writes to its log meanwhile."""
        before = self._number("SELECT pg_current_wal_insert_lsn() - '0/0'")
        case()
        return self._number("SELECT pg_current_wal_insert_lsn() - '0/0'") - before

    def megabytes(self) -> float:
        """How large the tasks are, with all their indexes."""
        return self._number("SELECT pg_total_relation_size('compute_tasks')") / 1e6

    def _number(self, sql: str) -> int:
        self.cursor.execute(sql)
        [(found,)] = self.cursor.fetchall()
        self.bare.commit()
        return int(found)

    def count(self, status: str) -> int:
        self.cursor.execute("SELECT count(*) FROM compute_tasks WHERE status = %s", (status,))
        [(found,)] = self.cursor.fetchall()
        self.bare.commit()
        return int(found)


def holder() -> Holder:
    """A worker that holds nothing yet."""
    return Holder(worker_id=f"w-{uuid4()}", credential="bench")


def finish(tasks: tuple[Task, ...]) -> list[Outcome]:
    """How each ended; doing it costs nothing."""
    return [
        Outcome.model_construct(id=task.id, attempt=task.attempt, status="completed", result=RESULT)
        for task in tasks
    ]


def upload(lines: int) -> Upload:
    """A body of POST /v1/batches."""
    line = orjson.dumps({"task_type": KIND, "payload": {**PAYLOAD, "model": MODEL}}) + b"\n"
    body = line * lines
    limits = UploadLimits(line_bytes=2**20, bytes=2**30)
    return Upload(io.BytesIO(body), limits, gzip=False, length=len(body))


@contextmanager
def stand(folder: Path) -> Iterator[Stand]:
    """A stand with servers of its own."""
    with ExitStack() as stack:
        postgres, valkey = stack.enter_context(stores(folder))
        made = Stand(postgres, valkey, postgres.url)
        stack.callback(made.close)
        yield made
