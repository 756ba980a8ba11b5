"""The step that gives a lease to tasks in work that have none, so that they can be rescued."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from gifty_compute.logic.logic import Logic
from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database

__all__ = ["Unleased"]


class Unleased:
    """For rows that code beside the service made `processing`, such as the backend's own route of before.

    No claim of ours leaves such a row. Without a lease it would stay in work for ever when its worker ends.
    """

    def __init__(self, database: Database, logic: Callable[[], Logic]) -> None:
        self._db, self._logic = database, logic

    def run(self, connection: Connection) -> Mapping[str, int]:
        seconds = self._logic().file.leases.bare_seconds
        leased = self._db.rows_on(connection, "lease_unleased", bare_seconds=seconds, limit=ROWS_A_STEP)
        return {"leased": len(leased)}
