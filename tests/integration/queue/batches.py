"""What tests of batches share: a body of lines, an upload of it, and a worker that ends tasks."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import orjson
from sqlalchemy import text

from gifty_compute.queue.batches import BatchStore, Submitted
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import Origin
from gifty_compute.queue.upload import Upload, UploadLimits
from gifty_compute.wire.batch import BatchOptions
from gifty_compute.wire.task import Holder, Task, Want

WORKER = Holder(worker_id="w", session="1", credential="c")
LIMITS = UploadLimits(line_bytes=2**20, bytes=2**30)


def line(words: str, **fields: Any) -> bytes:
    return orjson.dumps({"task_type": "embedding", "payload": {"texts": [words]}, **fields}) + b"\n"


def body(count: int) -> bytes:
    return b"".join(line(f"чайник {n}", metadata={"n": n}) for n in range(count))


def upload(data: bytes) -> Upload:
    return Upload(io.BytesIO(data), LIMITS, gzip=False, length=len(data))


def submit(
    batches: BatchStore, data: bytes | int = 3, *, key: str | None = None, **options: Any
) -> Submitted:
    data = body(data) if isinstance(data, int) else data
    origin = Origin(client="shop", request_id="req-1", idempotency_key=key)
    return batches.submit(upload(data), BatchOptions(**options), origin)


def vectors(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(count, 384)).astype(np.float32)


def claim(leases: LeaseStore, limit: int = 100) -> tuple[Task, ...]:
    return leases.claim(WORKER, Want(limit=limit, claim_id=uuid4())).tasks


def complete(leases: LeaseStore, tasks: Iterable[Task]) -> None:
    for task in tasks:
        seed = int(str(task.payload["texts"][0]).split()[-1])
        leases.complete(WORKER, task, {"embeddings": vectors(len(task.payload["texts"]), seed)})


def execute(database: Database, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    with database.connection() as connection:
        result = connection.execute(text(sql), parameters)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def callbacks(database: Database) -> list[str]:
    return [str(row["id"]) for row in execute(database, "SELECT id FROM compute_callbacks ORDER BY id")]


def statuses(database: Database, batch_id: UUID) -> list[str]:
    sql = "SELECT status FROM compute_tasks WHERE batch_id = :id ORDER BY seq"
    return [str(row["status"]) for row in execute(database, sql, id=str(batch_id))]
