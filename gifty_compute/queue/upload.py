"""An upload: JSON Lines read from a socket, inflated and hashed on the way, in bounded memory.

That all has arrived must be seen, not assumed: granian gives a connection that broke the same end as a body
that is complete. A Content-Length shows the difference, and so does the trailer of a gzip member.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gifty_compute.errors import InvalidRequest, MalformedBody, TooLarge
from gifty_compute.wire.batch import MAX_LINES

__all__ = ["Readable", "Upload", "UploadLimits"]

_CHUNK = 64 * 1024
_GZIP = zlib.MAX_WBITS | 16
_BROKEN = "the connection broke before the end of the body; nothing is stored"


class Readable(Protocol):
    """Where bytes come from; `read` gives none at the end, or when the connection is gone."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class UploadLimits:
    """How much is read at most: of one line, and of all of them, as sent and after inflating."""

    line_bytes: int
    bytes: int


class Upload:
    """The lines of a body, to be read once; `digest` is of all of them and complete at their end."""

    def __init__(self, source: Readable, limits: UploadLimits, *, gzip: bool, length: int | None) -> None:
        """`length` is the Content-Length, if the sender gave one. Raises TooLarge, InvalidRequest."""
        if length is not None and length > limits.bytes:
            raise TooLarge(f"the body is over {limits.bytes} bytes")
        if length is None and not gzip:
            raise InvalidRequest(
                "a body that is sent without Content-Length must be gzip: otherwise a connection that breaks "
                "looks like its end",
                param="Content-Length",
            )
        self._limits = limits
        self._received = _Received(source, limits.bytes, length)
        self._gzip, self._one_member = gzip, length is None
        self._hash = hashlib.sha256()

    @property
    def line_bytes(self) -> int:
        """The length of the longest line that is taken, in bytes."""
        return self._limits.line_bytes

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, and its number. Raises MalformedBody, TooLarge."""
        raw = _Inflated(self._received, one_member=self._one_member) if self._gzip else self._received
        reader = io.BufferedReader(raw, _CHUNK)
        number = size = 0
        while line := reader.readline(self._limits.line_bytes + 1):
            number += 1
            size += len(line)
            self._hash.update(line)
            if number > MAX_LINES:
                raise TooLarge(f"a batch has {MAX_LINES} lines at most")
            if len(line) > self._limits.line_bytes:
                raise TooLarge(f"line {number} is over {self._limits.line_bytes} bytes")
            if size > self._limits.bytes:
                raise TooLarge(f"the body is over {self._limits.bytes} bytes after inflating")
            if not line.isspace():
                yield number, line

    def digest(self, options: bytes) -> bytes:
        """SHA-256 of what was read, and of what was said beside it."""
        whole = self._hash.copy()
        whole.update(b"\0" + options)
        return whole.digest()


class _Received(io.RawIOBase):
    """Bytes off the socket. An end that comes too early, or never, is an error."""

    def __init__(self, source: Readable, most: int, length: int | None) -> None:
        self._source, self._most, self._length, self._seen = source, most, length, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a buffer is what io hands in
        try:
            data = self._source.read(len(buffer))
        except (OSError, ValueError) as error:
            raise MalformedBody(_BROKEN) from error
        if not data and self._length is not None and self._seen < self._length:
            raise MalformedBody(_BROKEN)
        self._seen += len(data)
        if self._seen > self._most:
            raise TooLarge(f"the body is over {self._most} bytes")
        buffer[: len(data)] = data
        return len(data)


class _Inflated(io.RawIOBase):
    """What gzip members hold. No more is inflated at a time than is asked for, however small it is packed.

    With `one_member` a second one is refused: a cut between two could not be seen.
    """

    def __init__(self, source: _Received, *, one_member: bool) -> None:
        self._source, self._one_member = source, one_member
        self._inflater = zlib.decompressobj(_GZIP)
        self._packed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a buffer is what io hands in
        while True:
            if self._inflater.eof and not self._begin_member():
                return 0
            packed = self._packed or self._source.read(_CHUNK)
            if not packed:
                raise MalformedBody("the gzip data ends too early; nothing is stored")
            try:
                data = self._inflater.decompress(packed, len(buffer))
            except zlib.error as error:
                raise MalformedBody(f"the body is not gzip: {error}") from error
            self._packed = self._inflater.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _begin_member(self) -> bool:
        """Whether another member follows the one that has ended. Zeros may be padded."""
        rest = self._inflater.unused_data.lstrip(b"\0")
        while not rest:
            more = self._source.read(_CHUNK)
            if not more:
                return False
            rest = more.lstrip(b"\0")
        if self._one_member:
            raise MalformedBody("a gzip body of several members needs a Content-Length")
        self._inflater, self._packed = zlib.decompressobj(_GZIP), rest
        return True
