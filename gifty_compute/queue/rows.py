"""Between rows and tasks: what a row of compute_tasks says, and how a result is laid down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from gifty_compute.wire.task import Task
from gifty_compute.wire.vectors import Vectors

__all__ = ["ended_task", "result_columns", "task_of", "vectors_of"]

_FIELDS = tuple(Task.model_fields)
_IDS = ("id", "batch_id")


def task_of(row: dict[str, Any]) -> Task:
    """The row as a Task; vectors that lie beside it become `result.embeddings`, an array [rows, dim]."""
    values = {name: _read(row[name]) for name in _FIELDS}
    for name in _IDS:
        if isinstance(values[name], str):
            values[name] = UUID(values[name])
    if row.get("dtype") is not None:
        values["result"] = {**(values["result"] or {}), "embeddings": vectors_of(row)}
    return Task.model_construct(**values)


def vectors_of(row: dict[str, Any]) -> Vectors:
    """The row's vectors as an array of shape [rows, dim], over the bytes as they came."""
    flat = np.frombuffer(row["data"], dtype=np.dtype(row["dtype"]).newbyteorder("<"))
    vectors: Vectors = flat.reshape(row["rows"], row["dim"])
    return vectors


def ended_task(task: Task, row: dict[str, Any], result: dict[str, Any]) -> Task:
    """The task with what `complete` changed in its row."""
    changed = {name: _read(value) for name, value in row.items() if name != "id"}
    return task.model_copy(update={**changed, "result": result})


def _read(value: Any) -> Any:
    # An adopted table may have timestamps without a zone; our connections write UTC there.
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def result_columns(result: dict[str, Any]) -> dict[str, Any]:
    """A checked result as the parameters of `complete`: JSON, and vectors as bytes beside it."""
    vectors = result.get("embeddings")
    if vectors is None:
        beside: dict[str, Any] = {"dtype": None, "rows": None, "dim": None, "data": None}
    else:
        rows, dim = vectors.shape
        little = np.ascontiguousarray(vectors).astype(vectors.dtype.newbyteorder("<"), copy=False)
        beside = {"dtype": vectors.dtype.name, "rows": rows, "dim": dim, "data": little.tobytes()}
    rest = {name: value for name, value in result.items() if name != "embeddings"}
    return {"result": orjson.dumps(rest).decode(), **beside}
