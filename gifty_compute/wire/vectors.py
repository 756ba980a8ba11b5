"""Vectors on the wire and at rest: nested lists or base64, always float32 or float16 rows in memory."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Any, TypeAlias

from gifty_compute.arrays import np, npt
from gifty_compute.errors import InvalidResult

__all__ = ["Vectors", "check", "decode", "encode", "packed", "same"]

Vectors: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float16]"

_DTYPES = {"float32": "<f4", "float16": "<f2"}
# A shorter vector than this has lost its direction to rounding.
_LEAST_NORM = 1e-6
# Two honest runs of one model agree this well (the contract's measure for a result sent twice).
_SAME_COSINE = 0.999


def decode(value: Any) -> Vectors:
    """Nested lists, the binary form or an array as an array of shape [n, dim].

    Raises InvalidResult for anything else: ragged rows, text, null, bytes that do not fit the shape.
    """
    if isinstance(value, np.ndarray):
        rows: npt.NDArray[Any] = value
    elif isinstance(value, dict):
        rows = _from_binary(value)
    elif isinstance(value, list):
        rows = _from_lists(value)
    else:
        raise InvalidResult("embeddings must be a list of vectors or the binary form", param="embeddings")
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise _no_numbers()
    if rows.dtype == np.float16:
        return rows
    if rows.dtype == np.float32:
        return np.ascontiguousarray(rows, dtype="<f4")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, dtype="<f4")


def _from_lists(value: list[Any]) -> npt.NDArray[Any]:
    """Packed row by row: a fifth of what numpy takes to find out what a list holds."""
    if not value:
        return np.empty((0, 0), "<f4")
    if not all(isinstance(row, list) for row in value):
        raise _no_numbers()
    dim = len(value[0])
    pack = struct.Struct(f"<{dim}f").pack
    try:
        packed = b"".join([pack(*row) for row in value])
    except struct.error as error:
        raise _no_numbers() from error
    except OverflowError as error:
        raise InvalidResult("a vector holds NaN or infinity", param="embeddings") from error
    rows = np.frombuffer(packed, "<f4").reshape(len(value), dim)
    # true and false are packed, too; they can only be where a 1 or a 0 is.
    suspicious = np.count_nonzero(rows) < rows.size or np.count_nonzero(rows - 1) < rows.size
    if suspicious and not all(set(map(type, row)) <= {int, float} for row in value):
        raise _no_numbers()
    return rows


def _no_numbers() -> InvalidResult:
    return InvalidResult("embeddings must be vectors of numbers, all of one length", param="embeddings")


def _from_binary(value: dict[str, Any]) -> npt.NDArray[Any]:
    known = _DTYPES.get(str(value.get("dtype")))
    shape, data = value.get("shape"), value.get("data")
    if known is None or set(value) != {"dtype", "shape", "data"} or not isinstance(data, str):
        message = 'binary embeddings are {"dtype": "float32" or "float16", "shape": [n, d], "data": base64}'
        raise InvalidResult(message, param="embeddings")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)):
        raise InvalidResult("shape must be [rows, dimension], each at least 1", param="embeddings.shape")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidResult("data is not base64", param="embeddings.data") from error
    dtype = np.dtype(known)
    if len(raw) != shape[0] * shape[1] * dtype.itemsize:
        message = f"data holds {len(raw)} bytes, shape and dtype say otherwise"
        raise InvalidResult(message, param="embeddings.data")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def encode(vectors: Vectors) -> dict[str, Any]:
    """The binary form: a quarter to an eighth of the bytes of nested lists."""
    return {
        "dtype": vectors.dtype.name,
        "shape": list(vectors.shape),
        "data": base64.b64encode(np.ascontiguousarray(vectors).tobytes()).decode(),
    }


def packed(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The result with its vectors in the binary form. Raises InvalidResult for an array of something else."""
    if result is None or not isinstance(result.get("embeddings"), np.ndarray):
        return result
    return {**result, "embeddings": encode(decode(result["embeddings"]))}


def check(vectors: Vectors, *, rows: int, dim: int | None) -> None:
    """Raises InvalidResult unless there is one finite, non-zero vector of this dimension per text."""
    if len(vectors) != rows:
        raise InvalidResult(f"{len(vectors)} vectors for {rows} texts", param="embeddings")
    if dim is not None and vectors.shape[1] != dim:
        message = f"vectors have {vectors.shape[1]} dimensions, the space has {dim}"
        raise InvalidResult(message, param="embeddings")
    # A square of float64 overflows for no number of float32, so one pass tells both.
    wide = vectors.astype(np.float64)
    squares = np.vecdot(wide, wide).tolist()
    if not all(square < math.inf for square in squares):
        raise InvalidResult("a vector holds NaN or infinity", param="embeddings")
    if min(squares, default=1.0) < _LEAST_NORM**2:
        raise InvalidResult("a vector is zero", param="embeddings")


def same(left: Vectors, right: Vectors) -> bool:
    """Whether two results are one outcome: equal, or every pair of rows at cosine 0.999 or more."""
    if left.shape != right.shape:
        return False
    if np.array_equal(left, right):
        return True
    a, b = left.astype(np.float64), right.astype(np.float64)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return bool((cosines >= _SAME_COSINE).all())
