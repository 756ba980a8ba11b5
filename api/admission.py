"""Admission: how many requests may hold a thread for long, so that some are left to answer at once."""

from __future__ import annotations

import threading
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
# Of those, too: who sends a body slowly, or not at all, holds a thread, and the server has no limit for it.
_READERS_SHARE = 1 / 2
# A burst of bodies that are all there is read within this; what stalls is not.
_READERS_PATIENCE = 0.25


class Admission:
    """Counts the requests that read a body, wait for a provider or a task's end, and the calls of workers."""

    def __init__(self, threads: int) -> None:
        reserved = min(_MOST_RESERVED, max(2, round(threads * _RESERVED_SHARE)))
        free = max(1, threads - reserved)
        # A deque gives and takes at once, without a lock at which threads would queue.
        self._free = deque([None] * free)
        self._workers = deque([None] * max(1, round(free * _WORKERS_SHARE)))
        self._readers = threading.Semaphore(max(2, round(free * _READERS_SHARE)))
        # While every free place is taken, bodies may still come in this part of the reserve.
        self._last = deque([None] * (reserved // 2))

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

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A place to read a body at, as long as the block runs. Raises Unavailable."""
        if not self._readers.acquire(timeout=_READERS_PATIENCE):
            raise Unavailable("too many bodies are being sent at once", retry_after=1)
        try:
            leave = self.try_enter() or self._enter_last()
            try:
                yield
            finally:
                leave()
        finally:
            self._readers.release()

    def _enter_last(self) -> Callable[[], None]:
        try:
            self._last.pop()
        except IndexError:
            raise Unavailable("all places for long requests are taken", retry_after=1) from None
        return lambda: self._last.append(None)


def admission() -> Admission:
    """The places of this process."""
    found: Admission = this_app().extensions["admission"]
    return found
