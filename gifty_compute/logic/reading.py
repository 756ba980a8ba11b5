"""Reading files that an operator edits: bounded in time and size, and from plain files alone."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from gifty_compute.errors import InvalidConfig

__all__ = ["READ_SECONDS", "BoundedReads", "read_plain_file"]

READ_SECONDS = 2.0
_PIECE_BYTES = 2**16
# O_NONBLOCK: the file may be replaced by a FIFO before it is opened. Windows has neither of the two.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

T = TypeVar("T")


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """The content of a plain file of at most so many bytes.

    Raises InvalidConfig with the reason. A FIFO, device, socket or directory is refused before it is opened,
    since opening one may wait or act; only a mount that does not answer can keep this from returning.
    """
    try:
        _require_plain(os.stat(path).st_mode, path)
        with open(os.open(path, _FLAGS), "rb", buffering=0) as file:
            _require_plain(os.fstat(file.fileno()).st_mode, path)
            content = bytearray()
            while len(content) <= most_bytes and (piece := file.read(_PIECE_BYTES)):
                content += piece
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise InvalidConfig(f"{path}: cannot be read ({_reason(error)})") from error
    if len(content) > most_bytes:
        raise InvalidConfig(f"{path}: cannot be read (it is larger than {most_bytes} bytes)")
    return bytes(content)


def _require_plain(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise InvalidConfig(f"{path}: cannot be read (it is not a regular file)")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return "there is no such file" if error.errno == errno.ENOENT else str(error.strerror or error)
    return str(error)


class _Reading(threading.Thread, Generic[T]):
    """One read, in a thread that ends with the process if the read never returns."""

    def __init__(self, read: Callable[[], T]) -> None:
        super().__init__(name="logic-read", daemon=True)
        self._read = read
        self.value: T | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.value = self._read()
        except Exception as error:  # noqa: BLE001  # raised again to the caller of BoundedReads.run
            self.error = error


class BoundedReads:
    """Runs reads in a thread of their own, so that a mount that does not answer holds up nothing else.

    At most one such thread hangs: while it does, every further read is refused at once. Not for use by
    several threads at a time.
    """

    def __init__(self, seconds: float = READ_SECONDS) -> None:
        self._seconds = seconds
        self._hanging: threading.Thread | None = None

    def run(self, read: Callable[[], T], path: Path) -> T:
        """What `read` returns, or raises. Raises InvalidConfig, naming the path, if it takes too long."""
        if self._hanging is not None and self._hanging.is_alive():
            raise self._too_slow(path)
        self._hanging = None
        reading = _Reading(read)
        reading.start()
        reading.join(self._seconds)
        if reading.is_alive():
            self._hanging = reading
            raise self._too_slow(path)
        if reading.error is not None:
            raise reading.error
        return reading.value  # type: ignore[return-value]  # without an error the read has returned a T

    def _too_slow(self, path: Path) -> InvalidConfig:
        return InvalidConfig(f"{path}: cannot be read within {self._seconds:g} s (a mount that hangs?)")
