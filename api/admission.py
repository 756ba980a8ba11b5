"""Admission: how many requests may hold a thread for long, so that some are left to answer at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from api.facade import this_app
from gifty_compute.errors import Unavailable

__all__ = ["Admission", "admission"]

# Kept for what takes no time: probes, submits, polls, and the word that there is no room.
_RESERVED_SHARE, _MOST_RESERVED = 1 / 8, 16


class Admission:
    """Counts the requests that wait for a provider or for a task's end."""

    def __init__(self, threads: int) -> None:
        reserved = min(_MOST_RESERVED, max(2, round(threads * _RESERVED_SHARE)))
        # A deque gives and takes at once, without a lock at which threads would queue.
        self._free = deque([None] * max(1, threads - reserved))

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


def admission() -> Admission:
    """The places of this process."""
    found: Admission = this_app().extensions["admission"]
    return found
