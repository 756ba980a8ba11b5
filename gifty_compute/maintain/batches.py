"""The step of batches: goes on with what was asked of them, and finds their ends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection

from gifty_compute.queue.chunks import cancel_rest, retry_rest
from gifty_compute.queue.database import Database

__all__ = ["Batches"]

# Together about a second of a pass, whatever is asked for.
_BATCHES_A_PASS = 50
_CHUNKS_A_BATCH = 10


class Batches:
    """Cancels and retries where a request has stopped, then ends the batches that have no task left to do."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def run(self, connection: Connection) -> Mapping[str, int]:
        rows = partial(self._db.rows_on, connection)
        cancelled = retried = 0
        for batch in rows("batches_asked", limit=_BATCHES_A_PASS):
            if batch["retry"]:
                retried += retry_rest(rows, batch["id"], chunks=_CHUNKS_A_BATCH).total()
            else:
                cancelled += cancel_rest(rows, batch["id"], chunks=_CHUNKS_A_BATCH)
        finished = rows("finish_batches", limit=_BATCHES_A_PASS)
        return {"cancelled": cancelled, "retried": retried, "batches_finished": len(finished)}
