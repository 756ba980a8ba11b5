"""Sight: which clients' tasks and batches a caller may read and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gifty_compute.logic.logic import Logic

__all__ = ["Sight", "Sights"]

_NO_CLIENT = ""
"""The lane of a row that was inserted by SQL, until maintain gives it its client."""


@dataclass(frozen=True)
class Sight:
    """The clients whose tasks and batches one caller reads, lists, cancels and retries.

    Every statement that a caller's request leads to names them in its condition.
    """

    clients: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The clients as a parameter of SQL."""
        return list(self.clients)


class Sights:
    """The sight of each client, by the logic in force.

    `first_client` owns the rows that were inserted by SQL, unless `clients.sql_rows` names another.
    """

    def __init__(self, logic: Callable[[], Logic], first_client: str) -> None:
        self._logic, self._first_client = logic, first_client

    def of(self, client: str) -> Sight:
        """The client itself and those that `clients.<client>.sees` names; not those that they see in turn."""
        clients = self._logic().file.clients
        seen = dict.fromkeys((client, *clients.of(client).sees))
        if self.owner_of_sql_rows in seen:
            seen[_NO_CLIENT] = None
        return Sight(tuple(seen))

    @property
    def owner_of_sql_rows(self) -> str:
        """The client of rows that were inserted by SQL; empty where this process knows none."""
        return self._logic().file.clients.sql_rows or self._first_client
