"""The one loop that keeps the queue healthy: rescue, promote, place, announce.

It runs as a thread of every facade process and as a Celery task that beat sends; an advisory lock lets one of
them work at a time. It needs neither Redis nor a Celery worker.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from gifty_compute.errors import InvalidRequest, StoreUnavailable
from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.database import Database
from gifty_compute.queue.sql import QUERIES
from gifty_compute.queue.store import SILENCE_SECONDS, TaskStore

__all__ = ["Maintainer", "Report"]

log = logging.getLogger(__name__)

# A pass is bounded, so that a flood of expired leases does not hold up the announcements behind it.
_ROWS_A_STEP = 1000
_COUNT_UP_TO = 320


@dataclass(frozen=True)
class Report:
    """What one pass did, in counts."""

    spared: int = 0
    """Leases that got one more term after a silence of ours."""
    rescued: int = 0
    failed: int = 0
    promoted: int = 0
    placed: int = 0
    refused: int = 0
    announced: int = 0

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}" for name, count in asdict(self).items() if count)
        return done or "nothing to do"


class Maintainer:
    """`run_pass` does everything once; `start` does so every `period` seconds."""

    def __init__(self, database: Database, store: TaskStore, announcer: Announcer, *, period: float) -> None:
        self._db, self._store, self._announcer, self._period = database, store, announcer, period
        self._stop = threading.Event()

    def run_pass(self) -> Report | None:
        """One pass, or None when another process is at it. Raises StoreUnavailable."""
        with self._db.connection() as connection:
            if not connection.execute(QUERIES["try_lock"]).scalar():
                return None
            try:
                return self._steps(connection)
            finally:
                connection.execute(QUERIES["unlock"])

    def start(self) -> None:
        """Begins the loop in a thread of its own."""
        threading.Thread(target=self._loop, name="maintain", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._period):
            try:
                report = self.run_pass()
            except StoreUnavailable as error:
                log.warning("maintain: %s", error)
            except Exception:
                # The loop is what rescues everybody else; it must outlive a fault of its own, and say so.
                log.exception("maintain: a pass failed")
            else:
                if report is not None and report != Report():
                    log.info("maintain: %s", report)

    def _steps(self, connection: Connection) -> Report:
        silence = {"silence_seconds": SILENCE_SECONDS}
        spared = self._db.rows_on(connection, "mercy", **silence)
        swept = self._db.rows_on(connection, "sweep", limit=_ROWS_A_STEP, **silence)
        promoted = self._db.rows_on(connection, "promote", limit=_ROWS_A_STEP)
        placed, refused = self._place(connection)
        backlog = {
            (row["task_type"], row["model"]): row["ready"]
            for row in self._db.rows_on(connection, "backlog", enough=_COUNT_UP_TO)
        }
        failed = sum(row["status"] == "failed" for row in swept)
        return Report(
            spared=len(spared),
            rescued=len(swept) - failed,
            failed=failed,
            promoted=len(promoted),
            placed=placed,
            refused=refused,
            announced=self._announcer.catch_up(backlog),
        )

    def _place(self, connection: Connection) -> tuple[int, int]:
        """Gives rows that came by SQL their model, or ends them with the reason a submit would have given."""
        placed = refused = 0
        try:
            rows = self._db.rows_on(connection, "unplaced", limit=_ROWS_A_STEP)
        except ValueError as error:
            # Nested deeper than any reader goes. The rest of the pass must not suffer from one such row.
            log.error("maintain: rows inserted by SQL cannot be read: %s", error)
            return 0, 0
        for row in rows:
            row_id = str(row["id"])
            try:
                columns = self._store.placed(row["task_type"], row["payload"], where="payload")
            except InvalidRequest as error:
                ended = self._db.rows_on(connection, "refuse", id=row_id, error=f"{error.code}: {error}")
                refused += len(ended)
            else:
                placed += len(self._db.rows_on(connection, "place", id=row_id, **columns))
        return placed, refused
