"""The purse of each batch: how it stands against its time, and money set aside before it is spent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from gifty_compute.queue.database import Database

__all__ = ["PAID_HANDS", "Purses"]

PAID_HANDS = "paid"
"""The credential of tasks that a provider is paid for."""

_WINDOW_SECONDS = 60.0
_BATCHES_A_LOOK = 100


class Purses:
    """Each change is one statement, so that several processes together never spend more than allowed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def due(self) -> list[dict[str, Any]]:
        """Rows of `due_batches`: one for each kind and model of what is left, the most urgent batch first."""
        return self._db.rows(
            "due_batches", paid_hands=PAID_HANDS, window_seconds=_WINDOW_SECONDS, limit=_BATCHES_A_LOOK
        )

    def plan(self, batch_id: UUID, plans: list[dict[str, Any]]) -> None:
        """Shows callers how the batch will be done, a plan for each kind and model."""
        self._db.rows("plan_batch", id=str(batch_id), plan=orjson.dumps({"parts": plans}).decode())

    def some(self, batch_id: UUID, task_type: str, model: str, limit: int) -> list[dict[str, Any]]:
        """So many tasks (id, payload) that a provider could take now; they are claimed like any other."""
        return self._db.rows("some_of_batch", id=str(batch_id), task_type=task_type, model=model, limit=limit)

    def set_aside(self, batch_id: UUID, usd: float) -> bool:
        """Whether the batch may cost that much more; if so it is set aside."""
        return self._db.row("set_aside", id=str(batch_id), usd=usd) is not None

    def settle(self, batch_id: UUID, aside: float, usd: float) -> None:
        """Gives back what was set aside, and books what it cost."""
        self._db.rows("settle", id=str(batch_id), aside=aside, usd=usd)
