"""The store of batches: many tasks in at once, cancelled or tried again as one, until none is left to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from gifty_compute.clock import Clock
from gifty_compute.errors import (
    Conflict,
    IdempotencyConflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Unavailable,
)
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.chunks import cancel_rest, retry_rest
from gifty_compute.queue.database import Database
from gifty_compute.queue.placing import columns_of
from gifty_compute.queue.sight import Sight
from gifty_compute.queue.spool import Spool
from gifty_compute.queue.tasks import Origin
from gifty_compute.queue.upload import Upload
from gifty_compute.wire.batch import Batch, BatchCounts, BatchOptions
from gifty_compute.wire.body import parse
from gifty_compute.wire.json import read_json, write_json
from gifty_compute.wire.task import SubmitRequest

__all__ = ["BatchStore", "Queues", "Submitted"]

Queues = Mapping[tuple[str, str], int]
"""How many tasks became ready, by task type and model."""

_WINDOW_SECONDS = 60.0
# Ten thousand tasks, a second or less; maintain goes on with the rest.
_CHUNKS_A_REQUEST = 10


@dataclass(frozen=True)
class Submitted:
    """A batch, whether it is new, and what became ready with it."""

    batch: Batch
    new: bool
    ready: Queues


class BatchStore:
    """Batches in PostgreSQL. `logic` gives the Logic in force; a batch is checked by one version of it.

    `admit` raises InvalidRequest for a callback_url that may not be called.
    """

    def __init__(
        self,
        database: Database,
        logic: Callable[[], Logic],
        clock: Clock,
        admit: Callable[[str], object],
    ) -> None:
        self._db, self._logic, self._clock, self._admit = database, logic, clock, admit

    def submit(self, upload: Upload, options: BatchOptions, origin: Origin) -> Submitted:
        """Commits all lines, or none; it is the first batch again for a repeated key and body.

        All is read and checked before the transaction begins: a slow sender holds no snapshot open. Raises
        InvalidRequest naming the line, and IdempotencyConflict for a repeated key with another body.
        """
        first = self._first(origin)
        if first is not None:
            for _ in upload:  # Only to know whether it is the same body.
                pass
            return self._again(first, upload, options, origin)
        if options.finish_by is not None and options.finish_by <= self._clock.now():
            raise InvalidRequest("finish_by is not in the future", param="finish_by")
        if options.callback_url is not None:
            self._admit(options.callback_url)
        batch_id = uuid4()
        with Spool(str(batch_id), origin.client, origin.request_id) as spool:
            self._read(upload, spool, origin.client)
            new = self._write(batch_id, spool, upload, options, origin)
        if new:
            return Submitted(self.stored(batch_id), new=True, ready=spool.queues)
        first = self._first(origin)
        if first is None:
            raise Unavailable("the first batch of this Idempotency-Key was removed just now; try again")
        return self._again(first, upload, options, origin)

    def _read(self, upload: Upload, spool: Spool, client: str) -> None:
        logic = self._logic()
        for number, line in upload:
            try:
                request = parse(SubmitRequest, read_json(line, largest=upload.line_bytes))
                columns = self._columns(logic, request, client)
            except InvalidRequest as error:
                message = f"line {number}: {error.message}"
                raise type(error)(message, param=error.param, code=error.code) from error
            except NotAllowed as error:
                raise NotAllowed(f"line {number}: {error.message}", param=error.param) from error
            try:
                spool.add(columns)
            except OSError as error:
                raise Unavailable(f"there is no room for the upload: {error.strerror}") from error
        if not len(spool):
            raise InvalidRequest("a batch has at least one line")

    def _columns(self, logic: Logic, request: SubmitRequest, client: str) -> dict[str, Any]:
        if request.callback_url is not None:
            self._admit(request.callback_url)
        return columns_of(logic, request, client)

    def _write(
        self, batch_id: UUID, spool: Spool, upload: Upload, options: BatchOptions, origin: Origin
    ) -> bool:
        """Whether the batch is new; its rows are in with it."""
        with self._db.transaction() as connection:
            rows = self._db.rows_on(
                connection,
                "submit_batch",
                id=str(batch_id),
                client=origin.client,
                idempotency_key=origin.idempotency_key,
                request_hash=_digest(upload, options) if origin.idempotency_key else None,
                request_id=origin.request_id,
                total=len(spool),
                **options.model_dump(),
            )
            if rows:
                self._db.copy_on(connection, "copy_tasks", spool.file)
            return bool(rows)

    def was_submitted(self, origin: Origin) -> bool:
        """Whether the idempotency key stands for a batch already."""
        return self._first(origin) is not None

    def _first(self, origin: Origin) -> dict[str, Any] | None:
        if origin.idempotency_key is None:
            return None
        return self._db.row("find_batch", client=origin.client, idempotency_key=origin.idempotency_key)

    def _again(
        self, first: dict[str, Any], upload: Upload, options: BatchOptions, origin: Origin
    ) -> Submitted:
        if bytes(first["request_hash"]) != _digest(upload, options):
            raise IdempotencyConflict(
                f"Idempotency-Key {origin.idempotency_key!r} was used with another body or other options"
            )
        return Submitted(self.stored(first["id"]), new=False, ready={})

    def get(self, sight: Sight, batch_id: UUID) -> Batch:
        """The batch as it is now. Raises NotFound, for another client's too."""
        return self._found("get_batch", batch_id, clients=sight.names)

    def stored(self, batch_id: UUID) -> Batch:
        """The batch as it is now, of any client: not for callers. Raises NotFound."""
        return self._found("stored_batch", batch_id)

    def _found(self, query: str, batch_id: UUID, **clients: list[str]) -> Batch:
        row = self._db.row(query, id=str(batch_id), window_seconds=_WINDOW_SECONDS, **clients)
        if row is None:
            raise NotFound(f"there is no batch {batch_id}")
        return _batch_of(row)

    def cancel(self, sight: Sight, batch_id: UUID) -> None:
        """Says that the batch shall end, and cancels a first part of it; maintain does the rest.

        Raises NotFound, and Conflict when it has ended otherwise.
        """
        if self._db.row("ask_cancel", id=str(batch_id), clients=sight.names) is None:
            if self.get(sight, batch_id).cancel_requested_at is None:
                raise Conflict(f"batch {batch_id} has ended already")
            return
        cancel_rest(self._db.rows, batch_id, chunks=_CHUNKS_A_REQUEST)

    def retry(self, sight: Sight, batch_id: UUID) -> Queues:
        """Opens the batch again for all that failed or was cancelled; a first part is ready now.

        What was cancelled counts, as for a single task: a batch that was cancelled can be taken up again.
        Raises NotFound, and Conflict where nothing failed or was cancelled.
        """
        if self._db.row("ask_retry", id=str(batch_id), clients=sight.names) is None:
            self.get(sight, batch_id)
            raise Conflict(f"nothing in batch {batch_id} has failed or was cancelled")
        return retry_rest(self._db.rows, batch_id, chunks=_CHUNKS_A_REQUEST)


def _digest(upload: Upload, options: BatchOptions) -> bytes:
    return upload.digest(write_json(options.model_dump()))


def _batch_of(row: dict[str, Any]) -> Batch:
    counts = BatchCounts(**(row["by_status"] or {}))
    rate = None if row["recently"] is None else row["recently"] / row["seconds"]
    left = counts.pending + counts.processing
    return Batch(
        id=UUID(str(row["id"])),
        counts=counts,
        rate=None if rate is None else round(rate, 3),
        eta=row["now"] + timedelta(seconds=left / rate) if rate and left else None,
        max_cost=None if row["max_cost"] is None else float(row["max_cost"]),
        cost_usd=float(row["cost_usd"]),
        **{name: row[name] for name in _AS_STORED},
    )


_AS_STORED = (
    "total",
    "generation",
    "created_at",
    "finished_at",
    "cancel_requested_at",
    "retry_requested_at",
    "finish_by",
    "plan",
)
