"""Admission: how many requests may hold a thread for long, so that some are left to answer at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import current_app

from gifty_compute.errors import Unavailable

__all__ = ["Admission", "admission"]

# Kept for what takes no time: probes, submits, polls, and the word that there is no room.
_RESERVED_SHARE, _MOST_RESERVED = 1 / 8, 16


class Admission:
    """Counts the requests that wait for a provider or for a task's end."""

    def __init__(self, threads: int) -> None:
        reserved = min(_MOST_RESERVED, max(2, round(threads * _RESERVED_SHARE)))
        self._free = threading.BoundedSemaphore(max(1, threads - reserved))

    def try_enter(self) -> Callable[[], None] | None:
        """Takes a place; what it gives gives the place back. None where no place is free."""
        return self._free.release if self._free.acquire(blocking=False) else None

    def enter(self) -> Callable[[], None]:
        """The same, but raises Unavailable where no place is free."""
        leave = self.try_enter()
        if leave is None:
            raise Unavailable("all places for long requests are taken", retry_after=1)
        return leave

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block runs. Raises Unavailable."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()


def admission() -> Admission:
    """The places of this process."""
    found: Admission = current_app.extensions["admission"]
    return found
