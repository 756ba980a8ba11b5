"""The step of batches: goes on with what was asked of them, and finds their ends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection

from gifty_compute.clock import Clock, Deadline
from gifty_compute.queue.chunks import cancel_rest, retry_rest
from gifty_compute.queue.database import Database

__all__ = ["Batches"]

_BATCHES_A_PASS = 50
_CHUNKS_A_BATCH = 10
# After it no more batch is begun with in this pass, however many were cancelled at once.
_SECONDS_A_PASS = 1.0


class Batches:
    """Cancels and retries where a request has stopped, then ends the batches that have no task left to do."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

    def run(self, connection: Connection) -> Mapping[str, int]:
        rows = partial(self._db.rows_on, connection)
        cancelled = retried = 0
        until = Deadline.after(_SECONDS_A_PASS, self._clock)
        for batch in rows("batches_asked", limit=_BATCHES_A_PASS):
            if until.expired:
                break
            if batch["retry"]:
                retried += retry_rest(rows, batch["id"], chunks=_CHUNKS_A_BATCH).total()
            else:
                cancelled += cancel_rest(rows, batch["id"], chunks=_CHUNKS_A_BATCH)
        finished = rows("finish_batches", limit=_BATCHES_A_PASS)
        return {"cancelled": cancelled, "retried": retried, "batches_finished": len(finished)}
