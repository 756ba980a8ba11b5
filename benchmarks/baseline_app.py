"""The Celery app of the baseline: each task takes a moment and notes in a ledger that it was done."""

from __future__ import annotations

import os
import threading

from celery import Celery
from redis import Redis

from gifty_compute.queue.broker import broker_url

app = Celery("baseline", broker=broker_url(os.environ["BENCH_BROKER"]), set_as_current=False)
app.conf.update(
    task_default_queue="bench",
    task_ignore_result=True,
    task_acks_late=os.environ["BENCH_ACKS_LATE"] == "1",
    task_reject_on_worker_lost=os.environ["BENCH_ACKS_LATE"] == "1",
    broker_connection_retry_on_startup=True,
)
# The ledger is no part of what is judged: it lives in a server that nobody touches.
_ledger = Redis.from_url(os.environ["BENCH_LEDGER"])


@app.task(name="work")  # type: ignore[untyped-decorator]
def work(number: int) -> None:
    """Ten milliseconds of work."""
    threading.Event().wait(0.01)
    _ledger.zincrby("done", 1, str(number))
