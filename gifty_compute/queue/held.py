"""Tasks that a credential holds, found by what is in them: for workers that were told no task's id."""

from __future__ import annotations

from gifty_compute.queue.database import Database
from gifty_compute.queue.rows import task_of
from gifty_compute.wire.task import Task

__all__ = ["HeldTasks"]


class HeldTasks:
    """Only what is in the credential's hands now: a lease that is over is somebody else's to report."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def with_products(self, credential: str, ids: list[str]) -> list[Task]:
        """Its score tasks with a product of these ids, oldest first."""
        return [task_of(row) for row in self._db.rows("held_products", credential=credential, wanted=ids)]

    def with_names(self, credential: str, names: list[str]) -> list[Task]:
        """Its classify tasks with one of these external names, oldest first."""
        return [task_of(row) for row in self._db.rows("held_names", credential=credential, wanted=names)]
