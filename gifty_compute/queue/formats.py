"""Results as bytes, piece by piece: JSON Lines for everybody, NumPy's own format for vectors alone."""

from __future__ import annotations

import io
from collections.abc import Generator

from gifty_compute.arrays import np
from gifty_compute.errors import Conflict
from gifty_compute.queue.results import Pages, Result
from gifty_compute.wire.json import write_json
from gifty_compute.wire.vectors import encode

__all__ = ["json_lines", "npy", "npy_header"]

_PIECE = 256 * 1024


def json_lines(pages: Pages, encoding_format: str = "float") -> Generator[bytes, None, None]:
    """A line for each task, as `wire.batch.BatchResult` says; base64 is the binary form of vectors."""
    piece = bytearray()
    for page in pages:
        for result in page:
            piece += write_json(_line(result, encoding_format))
            piece += b"\n"
            if len(piece) >= _PIECE:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)


def _line(result: Result, encoding_format: str) -> dict[str, object]:
    value = result.result
    if result.vectors is not None:
        binary = encoding_format == "base64"
        value = {**(value or {}), "embeddings": encode(result.vectors) if binary else result.vectors}
    return {
        "id": result.id,
        "position": result.position,
        "task_type": result.task_type,
        "status": result.status,
        "result": value,
        "error": result.error,
        "metadata": result.metadata,
    }


def npy_header(rows: int, dim: int) -> bytes:
    """What stands before the numbers in a .npy file of float32.

    >>> npy_header(2, 384)[:6]
    b'\\x93NUMPY'
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    )
    return header.getvalue()


def npy(pages: Pages, rows: int, dim: int) -> Generator[bytes, None, None]:
    """All vectors as one matrix. Raises Conflict where a task was taken up again since its shape was read."""
    yield npy_header(rows, dim)
    for page in pages:
        vectors = [result.vectors for result in page if result.vectors is not None]
        if len(vectors) < len(page) or any(one.shape[1] != dim for one in vectors):
            raise Conflict("a task of the batch has no longer the result that it had")
        yield np.concatenate(vectors).astype("<f4", copy=False).tobytes()
