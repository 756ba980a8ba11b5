"""Admission: how many requests may hold a thread for long, so that some are left to answer at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.facade import this_app
from gifty_compute.errors import Unavailable

__all__ = ["Admission", "admission"]

# Kept for what takes no time: probes, submits, polls, and the word that there is no room.
_RESERVED_SHARE, _MOST_RESERVED = 1 / 8, 16
# Of the other places: a fleet that comes all at once must not keep a user waiting.
_WORKERS_SHARE = 1 / 2


class Admission:
    """Counts the requests that wait for a provider or for a task's end, and the calls of workers."""

    def __init__(self, threads: int) -> None:
        reserved = min(_MOST_RESERVED, max(2, round(threads * _RESERVED_SHARE)))
        free = max(1, threads - reserved)
        # A deque gives and takes at once, without a lock at which threads would queue.
        self._free = deque([None] * free)
        self._workers = deque([None] * max(1, round(free * _WORKERS_SHARE)))

    def try_enter(self) -> Callable[[], None] | None:
        """Takes a place; what it gives gives the place back. None where no place is free."""
        try:
            self._free.pop()
        except IndexError:
            return None
        return self._leave

    def enter(self) -> Callable[[], None]:
        """The same, but raises Unavailable where no place is free."""
        leave = self.try_enter()
        if leave is None:
            raise Unavailable("all places for long requests are taken", retry_after=1)
        return leave

    def _leave(self) -> None:
        self._free.append(None)

    @contextmanager
    def worker_place(self) -> Iterator[None]:
        """A place of the workers' share, as long as the block runs. Raises Unavailable."""
        try:
            self._workers.pop()
        except IndexError:
            raise Unavailable("too many workers call at once", retry_after=1) from None
        try:
            leave = self.enter()
            try:
                yield
            finally:
                leave()
        finally:
            self._workers.append(None)


def admission() -> Admission:
    """The places of this process."""
    found: Admission = this_app().extensions["admission"]
    return found
