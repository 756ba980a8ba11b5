"""Between rows and tasks: what a row of compute_tasks says, and how a result is laid down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from gifty_compute.arrays import np
from gifty_compute.errors import NotFound
from gifty_compute.queue.database import Database
from gifty_compute.wire.task import Task
from gifty_compute.wire.timeline import Timeline
from gifty_compute.wire.vectors import Vectors

__all__ = ["found_row", "result_columns", "stored_row", "task_of", "timeline_of", "vectors_of"]

_FIELDS = tuple(Task.model_fields)
_IDS = ("id", "batch_id")
_TIMES = tuple(name for name in _FIELDS if name.endswith("_at"))
# What pydantic keeps beside the fields of a value; it copies the set before it changes it.
_SLOTS = (
    ("__pydantic_fields_set__", set(_FIELDS)),
    ("__pydantic_extra__", None),
    ("__pydantic_private__", None),
)


def stored_row(database: Database, task_id: UUID) -> dict[str, Any]:
    """The row of a task of any client, with its vectors. Raises NotFound."""
    return found_row(database.row("stored", id=str(task_id)), task_id)


def found_row(row: dict[str, Any] | None, task_id: UUID) -> dict[str, Any]:
    """The row. Raises NotFound where there is none; another client's row counts as none."""
    if row is None:
        raise NotFound(f"there is no task {task_id}")
    return row


def task_of(row: dict[str, Any]) -> Task:
    """The row as a Task; vectors that lie beside it become `result.embeddings`, an array [rows, dim]."""
    values = {name: row[name] for name in _FIELDS}
    for name in _TIMES:
        if values[name] is not None:
            values[name] = _read(values[name])
    for name in _IDS:
        if isinstance(values[name], str):
            values[name] = UUID(values[name])
    if row.get("dtype") is not None:
        values["result"] = {**(values["result"] or {}), "embeddings": vectors_of(row)}
    return _constructed(values)


def _constructed(values: dict[str, Any]) -> Task:
    """Task.model_construct for values that are all there; its loop costs a claim of 100 a millisecond."""
    task = Task.__new__(Task)
    for slot, value in (("__dict__", values), *_SLOTS):
        object.__setattr__(task, slot, value)
    return task


def vectors_of(row: dict[str, Any]) -> Vectors:
    """The row's vectors as an array of shape [rows, dim], over the bytes as they came."""
    flat = np.frombuffer(row["data"], dtype=np.dtype(row["dtype"]).newbyteorder("<"))
    vectors: Vectors = flat.reshape(row["rows"], row["dim"])
    return vectors


def timeline_of(row: dict[str, Any]) -> Timeline:
    """The row as operators see it: its attempts, without what was worked on."""
    ends = [{**entry, "since": entry["from"]} for entry in row["history"] or ()]
    columns = {name: _read(value) for name, value in row.items()}
    return Timeline.model_validate({**columns, "client": row["lane"], "history": ends})


def _read(value: Any) -> Any:
    # An adopted table may have timestamps without a zone; our connections write UTC there.
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def result_columns(result: dict[str, Any]) -> dict[str, Any]:
    """A checked result as the parameters of `complete`: JSON, and vectors as bytes beside it."""
    vectors = result.get("embeddings")
    # Of a declared type they may be anything. Where there are none, numpy need not be there.
    if vectors is None or not isinstance(vectors, np.ndarray):
        beside: dict[str, Any] = {"dtype": None, "rows": None, "dim": None, "data": None}
    else:
        rows, dim = vectors.shape
        little = np.ascontiguousarray(vectors).astype(vectors.dtype.newbyteorder("<"), copy=False)
        beside = {"dtype": vectors.dtype.name, "rows": rows, "dim": dim, "data": little.tobytes()}
        result = {name: value for name, value in result.items() if name != "embeddings"}
    return {"result": orjson.dumps(result).decode(), **beside}
