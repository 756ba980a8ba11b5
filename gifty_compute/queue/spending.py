"""The spending of all processes in PostgreSQL: a row for each day, provider, model and client."""

from __future__ import annotations

from datetime import date
from typing import Any

from gifty_compute.queue.database import Database
from gifty_compute.wire.spending import Amount, Line, Written

__all__ = ["SpendingTable"]

# A process that has not written for so long writes no more.
_WRITER_DAYS = 30


class SpendingTable:
    """Raises StoreUnavailable when PostgreSQL cannot be asked."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, writer: str, number: int, lines: Written) -> None:
        """Adds the amounts in one statement. The same writer's same number is added once."""
        if number == 1:
            self._db.rows("forget_writers", days=_WRITER_DAYS)
        self._db.rows("add_spending", writer=writer, flush=number, **_columns(lines))

    def since(self, day: date) -> Written:
        """All lines of that day and later ones."""
        return [_line(row) for row in self._db.rows("spending_since", day=day)]


def _columns(lines: Written) -> dict[str, list[Any]]:
    return {
        "days": [line.day for line, _ in lines],
        "providers": [line.provider for line, _ in lines],
        "models": [line.model for line, _ in lines],
        "clients": [line.client for line, _ in lines],
        "usd": [amount.usd for _, amount in lines],
        "estimated_usd": [amount.estimated_usd for _, amount in lines],
        "answers": [amount.answers for _, amount in lines],
        "unpriced": [amount.unpriced for _, amount in lines],
    }


def _line(row: dict[str, Any]) -> tuple[Line, Amount]:
    line = Line(row["day"], row["provider"], row["model"], row["client"])
    return line, Amount(row["usd"], row["estimated_usd"], row["answers"], row["unpriced"])
