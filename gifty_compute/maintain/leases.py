"""The step that gives tasks back: leases that ran out, delays that are over."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import SILENCE_SECONDS

__all__ = ["Leases"]


class Leases:
    """Mercy after a silence of ours, then rescue, then promotion of delayed tasks."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def run(self, connection: Connection) -> Mapping[str, int]:
        silence = {"silence_seconds": SILENCE_SECONDS}
        spared = self._db.rows_on(connection, "mercy", **silence)
        swept = self._db.rows_on(connection, "sweep", limit=ROWS_A_STEP, **silence)
        promoted = self._db.rows_on(connection, "promote", limit=ROWS_A_STEP)
        failed = sum(row["status"] == "failed" for row in swept)
        return {
            "spared": len(spared),  # leases that got one more term
            "rescued": len(swept) - failed,
            "failed": failed,
            "promoted": len(promoted),
        }
