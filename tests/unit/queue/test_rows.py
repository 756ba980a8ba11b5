"""Between rows of compute_tasks and tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest

from gifty_compute.queue.rows import result_columns, task_of
from gifty_compute.wire.task import Task

ID = UUID("7f0c2a34-0000-4000-8000-000000000001")
BATCH = UUID("7f0c2a34-0000-4000-8000-000000000002")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(**changed: Any) -> dict[str, Any]:
    """A completed row as the database gives it, with more columns than a task shows."""
    whole = {
        "id": ID,
        "task_type": "embedding",
        "priority": "low",
        "status": "completed",
        "payload": {"texts": ["чай", "мёд"]},
        "result": {"model": "m", "dim": 3},
        "error": None,
        "worker_id": "kaggle-1",
        "created_at": NOON,
        "updated_at": NOON,
        "started_at": NOON,
        "completed_at": NOON,
        "attempt": 1,
        "failures": 0,
        "max_attempts": 5,
        "available_at": None,
        "lease_expires_at": None,
        "batch_id": None,
        "model": "m",
        "space": "s",
        "metadata": {"order": 7},
        "progress": None,
        "seq": 99,
        "lane": "gifty",
        "credential": "celery",
        "request_hash": b"x",
    }
    return {**whole, **changed}


def test_a_row_is_the_task_that_it_holds_and_no_column_more() -> None:
    task = task_of(row())

    assert task == Task(**{name: row()[name] for name in Task.model_fields})
    assert set(vars(task)) == set(Task.model_fields)


def test_every_field_of_a_task_has_a_column() -> None:
    incomplete = row()
    del incomplete["progress"]

    with pytest.raises(KeyError, match="progress"):
        task_of(incomplete)


def test_ids_are_uuids_whether_the_driver_gives_text_or_uuids() -> None:
    task = task_of(row(id=str(ID), batch_id=str(BATCH)))

    assert (task.id, task.batch_id) == (ID, BATCH)


@pytest.mark.parametrize("name", ["created_at", "updated_at", "started_at", "completed_at", "available_at"])
def test_a_time_without_a_zone_is_one_in_utc(name: str) -> None:
    task = task_of(row(**{name: datetime(2026, 3, 1, 12)}))

    assert getattr(task, name) == NOON
    assert getattr(task, name).utcoffset() == timedelta(0)


def test_a_time_with_a_zone_stays_the_same_moment() -> None:
    moscow = datetime(2026, 3, 1, 15, tzinfo=timezone(timedelta(hours=3)))

    assert task_of(row(created_at=moscow)).created_at == NOON


def test_the_payloads_own_texts_are_not_touched() -> None:
    payload = {"texts": ["2026-03-01T12:00:00"], "id": "5"}

    assert task_of(row(payload=payload)).payload == payload


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_beside_the_row_become_embeddings_in_the_result(dtype: str) -> None:
    stored = np.arange(6, dtype=dtype).reshape(2, 3)

    task = task_of(row(dtype=dtype, rows=2, dim=3, data=memoryview(stored.tobytes())))

    assert task.result is not None
    np.testing.assert_array_equal(task.result.pop("embeddings"), stored)
    assert task.result == {"model": "m", "dim": 3}


def test_a_row_without_vectors_keeps_its_result() -> None:
    assert task_of(row(dtype=None, rows=None, dim=None, data=None)).result == {"model": "m", "dim": 3}
    assert task_of(row(result=None)).result is None


@pytest.mark.parametrize("dtype", ["<f4", "<f2", ">f4"])
def test_a_result_is_laid_down_and_read_back_alike(dtype: str) -> None:
    vectors = np.array([[1.5, -2, 0.25], [0, 3, 1]], dtype)

    columns = result_columns({"embeddings": vectors, "model": "m", "dim": 3, "ids": ["а", 2]})

    assert set(columns) == {"result", "dtype", "rows", "dim", "data"}
    assert "embeddings" not in columns["result"]
    stored = orjson.loads(columns.pop("result"))
    read = task_of(row(result=stored, **columns)).result
    assert read is not None
    np.testing.assert_array_equal(read["embeddings"], vectors)
    assert read["ids"] == ["а", 2]


def test_the_bytes_at_rest_are_little_endian_rows() -> None:
    columns = result_columns({"embeddings": np.array([[1.0, 0.0], [0.0, 0.0]], ">f4").T})

    assert columns["data"] == b"\x00\x00\x80\x3f" + b"\x00" * 12
    assert (columns["dtype"], columns["rows"], columns["dim"]) == ("float32", 2, 2)


def test_a_result_without_vectors_leaves_nothing_beside_the_row() -> None:
    assert result_columns({"scores": [0.5], "model": "m"}) == {
        "result": '{"scores":[0.5],"model":"m"}',
        "dtype": None,
        "rows": None,
        "dim": None,
        "data": None,
    }
