"""The data directory, which one process at a time works in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.embedded.errors import DirectoryInUse
from gifty_compute.embedded.private import make_private_directory

__all__ = ["DataDirectory"]

# A killed holder's shims need a few seconds to end what it left.
_CHILDREN_LIMIT = 30.0


class DataDirectory:
    """A private directory (0700) under two locks, which the kernel drops when their holders end.

    `lock` is this process's. `children.lock` goes to every child's shim, so that after our death
    the next holder waits until the last of our children has ended, too.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._locks: list[int] = []

    def acquire(self) -> None:
        """Take the directory, or say who has it."""
        make_private_directory(self.path)
        own = self._open("lock")
        if not _try_lock(own):
            holder = (self.path / "lock").read_text().strip() or "unknown"
            self.release()
            raise DirectoryInUse(
                f"{self.path} is in use by process {holder}: stop it,"
                " or give this one another directory with --data-dir"
            )
        os.ftruncate(own, 0)
        os.pwrite(own, f"{os.getpid()}\n".encode(), 0)
        children = self._open("children.lock")
        deadline = Deadline.after(_CHILDREN_LIMIT, self._clock)
        while not _try_lock(children):
            if deadline.expired:
                self.release()
                raise DirectoryInUse(
                    f"{self.path}: processes of a run that was killed still end after"
                    f" {_CHILDREN_LIMIT:.0f} s: `fuser {self.path / 'children.lock'}` names them"
                )
            threading.Event().wait(0.05)

    def release(self) -> None:
        """Let the next one in, once our children have ended."""
        while self._locks:
            os.close(self._locks.pop())

    @property
    def hold(self) -> tuple[int, ...]:
        """What every child keeps open (`Child(hold=...)`)."""
        return tuple(self._locks[1:])

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self.path / name, flags, 0o600)
        self._locks.append(lock)
        return lock


def _try_lock(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
