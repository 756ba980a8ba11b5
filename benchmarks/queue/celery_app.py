"""The Celery side of the benchmark: a no-op a message, and a hundred tasks an announcement."""

from __future__ import annotations

import os
from random import Random

from celery import Celery

from benchmarks.queue.stand import LOGIC, WANT, finish, holder
from gifty_compute.logic.source import parse_logic
from gifty_compute.queue.broker import broker_url
from gifty_compute.queue.database import connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.source import SqlSource
from gifty_compute.queue.tasks import TaskStore

app = Celery("bench", broker=broker_url(os.environ["REDIS_URL"]), set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "100")),
    broker_connection_retry_on_startup=True,
    task_default_queue="bench",
)
_logic = parse_logic(LOGIC)
_database = connect(os.environ["DATABASE_URL"])
_source = SqlSource(LeaseStore(_database, lambda: _logic, Random(1)), TaskStore(_database, lambda: _logic))


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Nothing."""


@app.task(name="hundred")  # type: ignore[untyped-decorator]
def hundred() -> str:
    """A hundred tasks of the queue, claimed and reported."""
    worker = holder()
    tasks = _source.claim(worker, WANT).tasks
    _source.report(worker, finish(tasks))
    return f"done {len(tasks)}"
