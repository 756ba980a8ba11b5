"""Tasks as their callers see them: submit, read, list, cancel, retry. The row is the truth.

What a caller asks for takes its Sight; what takes none is for workers, operators and the service itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from gifty_compute.errors import Conflict, IdempotencyConflict, TaskFinished
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.placing import columns_of
from gifty_compute.queue.rows import found_row, stored_row, task_of, timeline_of
from gifty_compute.queue.sight import Sight
from gifty_compute.wire.task import SubmitRequest, Task
from gifty_compute.wire.timeline import Timeline

__all__ = ["Origin", "TaskStore"]

# About 20 MB of JSON; a hundred tasks of 2,048 vectors would be gigabytes.
_MOST_NUMBERS_A_PAGE = 2_000_000


@dataclass(frozen=True)
class Origin:
    """Where a submit comes from: the client (its lane), and what it said of the request."""

    client: str
    request_id: str | None = None
    idempotency_key: str | None = None


class TaskStore:
    """The callers' side of tasks. `logic` gives the Logic in force; it decides models and spaces."""

    def __init__(self, database: Database, logic: Callable[[], Logic]) -> None:
        self._db, self._logic = database, logic

    def submit(self, request: SubmitRequest, origin: Origin) -> tuple[Task, bool]:
        """Commits a task and says whether it is new; it is the first one again for a repeated key and body.

        Raises InvalidRequest, NotAllowed, and IdempotencyConflict for a repeated key with another body.
        """
        columns = columns_of(self._logic(), request, origin.client)
        digest = _digest(request) if origin.idempotency_key else None
        row = self._db.row(
            "submit",
            **columns,
            lane=origin.client,
            request_id=origin.request_id,
            idempotency_key=origin.idempotency_key,
            request_hash=digest,
        )
        if row is not None:
            return task_of(row), True
        first = self._db.row("find_submitted", lane=origin.client, idempotency_key=origin.idempotency_key)
        if first is None or bytes(first["request_hash"] or b"") != digest:
            raise IdempotencyConflict(
                f"Idempotency-Key {origin.idempotency_key!r} was used with another body"
            )
        return task_of(first), False

    def was_submitted(self, origin: Origin) -> bool:
        """Whether the idempotency key stands for a task already."""
        key = origin.idempotency_key
        found = self._db.row("find_submitted", lane=origin.client, idempotency_key=key) if key else None
        return found is not None

    def get(self, sight: Sight, task_id: UUID) -> Task:
        """The task as it is now. Raises NotFound, for another client's too."""
        row = self._db.row("get", id=str(task_id), clients=sight.names)
        return task_of(found_row(row, task_id))

    def stored(self, task_id: UUID) -> Task:
        """The task as it is now, of any client: not for callers. Raises NotFound."""
        return task_of(stored_row(self._db, task_id))

    def timeline(self, task_id: UUID) -> Timeline:
        """What operators see of the life of a task of any client. Raises NotFound."""
        return timeline_of(stored_row(self._db, task_id))

    def page(
        self,
        sight: Sight,
        *,
        limit: int,
        before: int | None = None,
        status: str | None = None,
        task_type: str | None = None,
        batch_id: UUID | None = None,
    ) -> tuple[list[Task], int | None]:
        """A page of tasks, newest first, and where the next one begins (None at the end)."""
        filters: dict[str, Any] = {"clients": sight.names, "status": status, "task_type": task_type}
        query, most = "list", {"most_numbers": _MOST_NUMBERS_A_PAGE}
        if batch_id is not None:
            query, filters["batch_id"] = "list_batch", str(batch_id)
        rows = self._db.rows(query, **filters, **most, before=before, limit=limit)
        last = rows[-1]["seq"] if rows else None
        more = last is not None and self._db.row(query, **filters, **most, before=last, limit=1)
        return [task_of(row) for row in rows], last if more else None

    def ended(self, ids: list[UUID]) -> set[UUID]:
        """Which of these tasks and batches have come to an end."""
        return {UUID(str(row["id"])) for row in self._db.rows("ended", ids=[str(i) for i in ids])}

    def find(self, ids: list[UUID]) -> dict[UUID, Task]:
        """Those of these tasks that exist, of any client, as they are now, without their vectors."""
        found = self._db.rows("find", ids=[str(one) for one in ids])
        return {task.id: task for task in map(task_of, found)}

    def cancel(self, sight: Sight, task_id: UUID) -> Task:
        """Ends the task; its worker learns it from the next heartbeat. Raises NotFound, TaskFinished."""
        row = self._db.row("cancel", id=str(task_id), clients=sight.names)
        if row is not None:
            return task_of(row)
        present = self.get(sight, task_id)
        if present.status == "cancelled":
            return present
        raise TaskFinished(f"task {task_id} is {present.status} already")

    def retry(self, sight: Sight, task_id: UUID) -> Task:
        """Begins a new generation of a failed or cancelled task. Raises NotFound, and Conflict otherwise."""
        row = self._db.row("retry", id=str(task_id), clients=sight.names)
        if row is not None:
            return task_of(row)
        present = self.get(sight, task_id)
        if present.status in ("failed", "cancelled"):
            raise Conflict(f"batch {present.batch_id} of task {task_id} is being cancelled")
        raise Conflict(f"task {task_id} is {present.status}; only a failed or cancelled one can be retried")


def _digest(request: SubmitRequest) -> bytes:
    return hashlib.sha256(orjson.dumps(request.model_dump(), option=orjson.OPT_SORT_KEYS)).digest()
