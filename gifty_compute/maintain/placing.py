"""The step that receives rows inserted by SQL: they get their model, or end with the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database
from gifty_compute.queue.placing import placed

__all__ = ["Placing"]

log = logging.getLogger(__name__)


class Placing:
    """Treats such a row as a submit would have treated it."""

    def __init__(self, database: Database, logic: Callable[[], Logic], owner: Callable[[], str]) -> None:
        """`owner` names the client of rows that were inserted by SQL."""
        self._db, self._logic, self._owner = database, logic, owner

    def run(self, connection: Connection) -> Mapping[str, int]:
        logic, client, received, refused = self._logic(), self._owner(), 0, 0
        try:
            rows = self._db.rows_on(connection, "unplaced", limit=ROWS_A_STEP)
        except ValueError as error:
            # Nested deeper than any reader goes. The rest of the pass must not suffer from one such row.
            log.error("maintain: rows inserted by SQL cannot be read: %s", error)
            return {"placed": 0, "refused": 0}
        for row in rows:
            row_id = str(row["id"])
            try:
                columns = placed(logic, row["task_type"], row["payload"], where="payload")
            except InvalidRequest as error:
                reason = f"{error.code}: {error}"
                ended = self._db.rows_on(connection, "refuse", id=row_id, client=client, error=reason)
                refused += len(ended)
            else:
                received += len(self._db.rows_on(connection, "place", id=row_id, client=client, **columns))
        return {"placed": received, "refused": refused}
