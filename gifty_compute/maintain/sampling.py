"""The step that samples the queue, so that operators and callers see what waits and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from gifty_compute.clock import Clock, Deadline
from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database
from gifty_compute.queue.presence import LIVE_SECONDS
from gifty_compute.queue.samples import ENOUGH, MOST_QUEUES

__all__ = ["Sampling"]

_PERIOD_SECONDS = 5.0
# A count of 100,000 rows takes some 50 ms. Samples of many such queues come less often, but often enough to
# be taken for fresh.
_TIMES_ITS_OWN_LENGTH = 20.0
_LONGEST_REST_SECONDS = 15.0
_MOST_LANES = 100
# An end is counted when its transaction has surely been committed.
_SETTLED_SECONDS = 2.0
_KEPT_SECONDS = 86_400.0
# Long after a worker has fallen silent its name is still of use to operators.
_WORKERS_KEPT_SECONDS = 3600.0


class Sampling:
    """A sample every 5 seconds, whichever process holds the lock; samples are kept for 24 hours."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock
        self._rest = Deadline.after(0, clock)

    def run(self, connection: Connection) -> Mapping[str, int]:
        """Samples when it is due. Reports no counts: the log of each pass would consist of them."""
        if self._rest.expired and self._is_due(connection):
            began = self._clock.monotonic()
            self._sample(connection)
            took = self._clock.monotonic() - began
            rest = max(_PERIOD_SECONDS, min(took * _TIMES_ITS_OWN_LENGTH, _LONGEST_REST_SECONDS))
            self._rest = Deadline.after(rest, self._clock)
        return {}

    def _is_due(self, connection: Connection) -> bool:
        """Other processes sample, too."""
        rows = self._db.rows_on(connection, "sampled")
        return not rows or rows[0]["age_seconds"] is None or rows[0]["age_seconds"] >= _PERIOD_SECONDS

    def _sample(self, connection: Connection) -> None:
        self._db.rows_on(
            connection,
            "sample",
            enough=ENOUGH,
            most_queues=MOST_QUEUES,
            most_lanes=_MOST_LANES,
            live=LIVE_SECONDS,
            settled=_SETTLED_SECONDS,
        )
        self._db.rows_on(connection, "prune_samples", seconds=_KEPT_SECONDS, limit=ROWS_A_STEP)
        self._db.rows_on(connection, "prune_workers", seconds=_WORKERS_KEPT_SECONDS)
