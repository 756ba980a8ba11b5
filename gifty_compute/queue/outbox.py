"""The outbox: who is to be told of an end, until they have been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal
from uuid import UUID

from gifty_compute.backoff import Backoff
from gifty_compute.errors import NotFound
from gifty_compute.queue.database import Database
from gifty_compute.queue.rows import task_of
from gifty_compute.wire.callback import Callback
from gifty_compute.wire.task import Task

__all__ = ["GIVE_UP_SECONDS", "Counts", "Outbox", "State", "TaskToTell"]

State = Literal["due", "dead", "any"]

GIVE_UP_SECONDS = 86_400.0
_BACKOFF = Backoff(base=5.0, cap=3600.0)
# Several times what a try may take; a sender that died is replaced after it.
_LEASE_SECONDS = 60.0
_COUNT_UP_TO = 10_000
_CHUNK = 10_000


@dataclass(frozen=True)
class TaskToTell:
    """A task as a callback shows it; `has_more` when its vectors are over what was asked for."""

    task: Task
    request_id: str | None
    has_more: bool


@dataclass(frozen=True)
class Counts:
    """How many wait and how many are dead, counted up to ten thousand."""

    due: int
    dead: int


class Outbox:
    """compute_callbacks. Its rows come by themselves, with the end of a task or a batch."""

    def __init__(self, database: Database, rng: Random) -> None:
        self._db, self._rng = database, rng

    def lease(self, *, limit: int, busy: Sequence[str] = ()) -> list[Callback]:
        """Takes due callbacks for a try, one of each receiver that is not `busy`; `due_at` is the lease."""
        rows = self._db.rows(
            "lease_callbacks",
            limit=limit,
            busy=list(busy),
            dice=str(self._rng.random()),
            lease_seconds=_LEASE_SECONDS,
        )
        return [_callback_of(row) for row in rows]

    def task(self, task_id: UUID, *, most_numbers: int) -> TaskToTell | None:
        """The task as it is now; None when it has been removed."""
        row = self._db.row("callback_task", id=str(task_id), most_numbers=most_numbers)
        return None if row is None else TaskToTell(task_of(row), row["request_id"], row["has_more"])

    def delivered(self, callback: Callback) -> None:
        """The receiver has it, whoever told it."""
        self._db.rows("delivered", id=callback.id)

    def undelivered(self, callback: Callback, error: str) -> Literal["due", "dead"] | None:
        """What becomes of it after a failed try; None when the lease was lost and somebody else decides."""
        row = self._db.row(
            "undelivered",
            id=callback.id,
            leased_until=callback.due_at,
            delay=_BACKOFF.delay(callback.tries, self._rng),
            give_up_seconds=GIVE_UP_SECONDS,
            error=error,
        )
        if row is None:
            return None
        return "dead" if row["dead"] else "due"

    def resend(self, callback_id: str) -> Callback:
        """Due at once, with a day before it, whatever became of it. Raises NotFound."""
        row = self._db.row("resend", id=callback_id)
        if row is None:
            raise NotFound(f"there is no callback {callback_id}")
        return _callback_of(row)

    def resend_dead(self, receiver: str | None = None) -> int:
        """The same for all dead ones, or for those of one receiver (`host` or `host:port`); how many."""
        total = 0
        while found := len(self._db.rows("resend_dead", receiver=receiver, limit=_CHUNK)):
            total += found
        return total

    def page(
        self,
        *,
        state: State,
        limit: int,
        before: str | None = None,
        task_id: UUID | None = None,
        batch_id: UUID | None = None,
    ) -> list[Callback]:
        """Callbacks, newest first; the next page begins `before` the last one's id."""
        rows = self._db.rows(
            "list_callbacks",
            state=state,
            task_id=str(task_id) if task_id else None,
            batch_id=str(batch_id) if batch_id else None,
            before=before,
            limit=limit,
        )
        return [_callback_of(row) for row in rows]

    def counts(self) -> Counts:
        [row] = self._db.rows("count_callbacks", enough=_COUNT_UP_TO)
        return Counts(**row)


def _callback_of(row: dict[str, Any]) -> Callback:
    values = {name: row[name] for name in Callback.model_fields}
    for name in ("task_id", "batch_id"):
        values[name] = UUID(str(values[name])) if values[name] is not None else None
    return Callback(**values)
