"""The step that removes what has ended: tasks by age, batches without tasks, and old claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from gifty_compute.clock import Clock, Deadline
from gifty_compute.logic.file import RetentionSection
from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database

__all__ = ["Retention"]

# A task may have megabytes of vectors; a statement removes no more of them than it can in a second or so.
_TASKS_A_CHUNK = 100
_SECONDS_A_PASS = 1.0
# Nothing is urgent here: after a pass that found nothing more, the next one looks after so long.
_REST_SECONDS = 600.0
_DAY_SECONDS = 86_400.0


class Retention:
    """Removes tasks as `retention` of logic.yaml says, chunk by chunk, for about a second in each pass."""

    def __init__(self, database: Database, retention: Callable[[], RetentionSection], clock: Clock) -> None:
        self._db, self._retention, self._clock = database, retention, clock
        self._rest = Deadline.after(0, clock)

    def run(self, connection: Connection) -> Mapping[str, int]:
        tasks = batches = claims = 0
        if self._rest.expired:
            until = Deadline.after(_SECONDS_A_PASS, self._clock)
            tasks = self._tasks(connection, until)
            if self._ages():
                batches = self._prune(connection, "prune_batches", limit=ROWS_A_STEP)
            claims = self._prune(connection, "prune_claims", limit=ROWS_A_STEP)
            if not until.expired and max(batches, claims) < ROWS_A_STEP:
                self._rest = Deadline.after(_REST_SECONDS, self._clock)
        return {"tasks_pruned": tasks, "batches_pruned": batches, "claims_pruned": claims}

    def _ages(self) -> dict[str, float]:
        """For each status that is pruned: how old its tasks get, in seconds."""
        days = self._retention()
        ages = {
            "completed": days.completed_days,
            "failed": days.failed_days,
            "cancelled": days.cancelled_days,
        }
        return {status: age * _DAY_SECONDS for status, age in ages.items() if age is not None}

    def _tasks(self, connection: Connection, until: Deadline) -> int:
        total = 0
        for status, seconds in self._ages().items():
            chunk = _TASKS_A_CHUNK
            while chunk == _TASKS_A_CHUNK and not until.expired:
                chunk = self._prune(
                    connection, "prune_tasks", status=status, seconds=seconds, limit=_TASKS_A_CHUNK
                )
                total += chunk
        return total

    def _prune(self, connection: Connection, query: str, **parameters: Any) -> int:
        return len(self._db.rows_on(connection, query, **parameters))
