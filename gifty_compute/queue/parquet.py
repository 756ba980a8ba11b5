"""Results as Apache Parquet, a row a task. Only this module imports pyarrow, which comes with [parquet]."""

from __future__ import annotations

import io
from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gifty_compute.arrays import np
from gifty_compute.queue.results import Pages, Result
from gifty_compute.wire.json import write_json
from gifty_compute.wire.vectors import Vectors

__all__ = ["parquet"]

_VECTORS = pa.list_(pa.list_(pa.float32()))
_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int32(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("task_type", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("space", pa.string()),
        pa.field("embeddings", _VECTORS),
        pa.field("result", pa.string(), metadata={"is": "JSON, without the embeddings"}),
        pa.field("error", pa.string()),
        pa.field("metadata", pa.string(), metadata={"is": "JSON"}),
    ]
)


def parquet(pages: Pages) -> Generator[bytes, None, None]:
    """A row group a page. The footer comes last: what was cut short cannot be read by mistake."""
    sink = _Sink()
    writer = pq.ParquetWriter(sink, _SCHEMA, compression="zstd")
    for page in pages:
        writer.write_table(_table(page))
        yield sink.taken()
    writer.close()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what is written, until it is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._size += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _table(page: list[Result]) -> Any:
    columns = {name: [getattr(result, name) for result in page] for name in _PLAIN}
    return pa.table(
        {
            **columns,
            "id": [str(result.id) for result in page],
            "embeddings": _nested([result.vectors for result in page]),
            "result": [_json(result.result) for result in page],
            "metadata": [_json(result.metadata) for result in page],
        },
        schema=_SCHEMA,
    )


_PLAIN = ("position", "task_type", "status", "model", "space", "error")


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else write_json(value).decode()


def _nested(matrices: list[Vectors | None]) -> Any:
    """The matrices as one array of lists of vectors, without a Python object a number."""
    there = [matrix for matrix in matrices if matrix is not None]
    rows = np.cumsum([0, *(0 if matrix is None else len(matrix) for matrix in matrices)], dtype=np.int32)
    lengths = [matrix.shape[1] for matrix in there for _ in range(len(matrix))]
    starts = np.cumsum([0, *lengths], dtype=np.int32)
    numbers = np.concatenate([matrix.ravel() for matrix in there]) if there else np.empty(0)
    vectors = pa.ListArray.from_arrays(starts, pa.array(numbers.astype(np.float32, copy=False)))
    absent = pa.array([matrix is None for matrix in matrices])
    return pa.ListArray.from_arrays(rows, vectors, mask=absent)
