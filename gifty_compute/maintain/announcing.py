"""The step that tells Celery workers of ready tasks, as far as the broker does not hold messages already."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.database import Database

__all__ = ["Announcing"]

_COUNT_UP_TO = 320


class Announcing:
    """Tops up the messages of each queue. Without a broker it does nothing, and the next pass tries again."""

    def __init__(self, database: Database, announcer: Announcer) -> None:
        self._db, self._announcer = database, announcer

    def run(self, connection: Connection) -> Mapping[str, int]:
        backlog = {
            (row["task_type"], row["model"]): row["ready"]
            for row in self._db.rows_on(connection, "backlog", enough=_COUNT_UP_TO)
        }
        return {"announced": self._announcer.catch_up(backlog)}
