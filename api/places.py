"""Places of one kind: how many requests may be at it at once, and in which order the others get a turn."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

__all__ = ["Leave", "NoPlace", "Occupancy", "Places"]

Leave = Callable[[], None]
"""Gives a place back; to be called once."""


class NoPlace(Exception):
    """No place became free in time, or the line is full. The message says how many places are taken, and how
    many of them this client holds."""


@dataclass(frozen=True)
class Occupancy:
    """The places of one kind at one moment."""

    size: int
    taken: int
    waiting: int


@dataclass(eq=False)
class _Waiter:
    """A request that stands in line; its thread sleeps until `woken`."""

    has_place: bool = False
    woken: threading.Event = field(default_factory=threading.Event)


class Places:
    """At most `size` requests hold a place, at most `line` wait for one.

    No client takes more than its `share` of either, so that one is left for another client. A place that is
    given back goes to the waiting client that holds the fewest, among equals in turn, and of its requests to
    the oldest. A request never overtakes another one of its own client.
    """

    def __init__(self, size: int, *, line: int = 0, share: float = 1.0) -> None:
        self._size, self._line = size, line
        self._most_taken, self._most_waiting = math.ceil(size * share), math.ceil(line * share)
        # Everything below is read and written under this lock, which is held for about a microsecond.
        self._lock = threading.Lock()
        self._taken = self._waiting = 0
        self._taken_by: dict[str, int] = {}
        self._waiters: dict[str, deque[_Waiter]] = {}
        """By client; a client that was served moves to the end."""

    def try_enter(self, client: str) -> Leave | None:
        """A place, if one is free now."""
        with self._lock:
            if not self._may_take(client):
                return None
            self._take(client)
        return partial(self._leave, client)

    def enter(self, client: str, seconds: float) -> Leave:
        """A place; waits for one up to so many seconds. Raises NoPlace."""
        with self._lock:
            if self._may_take(client):
                self._take(client)
                return partial(self._leave, client)
            waiter = self._stand_in_line(client, seconds)
        if not waiter.woken.wait(seconds):
            self._give_up(client, waiter)
        return partial(self._leave, client)

    def occupancy(self) -> Occupancy:
        with self._lock:
            return Occupancy(self._size, self._taken, self._waiting)

    def _leave(self, client: str) -> None:
        with self._lock:
            self._taken -= 1
            self._taken_by[client] -= 1
            if not self._taken_by[client]:
                del self._taken_by[client]
            # One place became free, or one client fell below its share: one waiter at most can be served.
            next_waiter = self._hand_over() if self._waiting else None
        if next_waiter is not None:
            next_waiter.woken.set()

    # The methods below are called with the lock held.

    def _may_take(self, client: str) -> bool:
        """As long as a place is free, every client that waits has its full share: no one is overtaken."""
        return self._taken < self._size and self._taken_by.get(client, 0) < self._most_taken

    def _take(self, client: str) -> None:
        self._taken += 1
        self._taken_by[client] = self._taken_by.get(client, 0) + 1

    def _stand_in_line(self, client: str, seconds: float) -> _Waiter:
        mine = self._waiters.get(client, ())
        if seconds <= 0 or self._waiting >= self._line or len(mine) >= self._most_waiting:
            raise NoPlace(self._told(client))
        waiter = _Waiter()
        self._waiters.setdefault(client, deque()).append(waiter)
        self._waiting += 1
        return waiter

    def _hand_over(self) -> _Waiter | None:
        able = [client for client in self._waiters if self._may_take(client)]
        if not able:
            return None
        client = min(able, key=lambda one: self._taken_by.get(one, 0))
        waiter = self._waiters[client][0]
        self._step_out(client, waiter)
        if client in self._waiters:
            self._waiters[client] = self._waiters.pop(client)
        self._take(client)
        waiter.has_place = True
        return waiter

    def _step_out(self, client: str, waiter: _Waiter) -> None:
        mine = self._waiters[client]
        mine.remove(waiter)
        self._waiting -= 1
        if not mine:
            del self._waiters[client]

    def _told(self, client: str) -> str:
        counts = f"{self._taken} of {self._size} places are taken, {self._waiting} requests wait"
        own = self._taken_by.get(client, 0)
        return f"{counts}; this client holds {own} places and may hold {self._most_taken}"

    # Called without the lock.

    def _give_up(self, client: str, waiter: _Waiter) -> None:
        with self._lock:
            # The place may have been handed over at the very end of the time.
            if waiter.has_place:
                return
            self._step_out(client, waiter)
            raise NoPlace(self._told(client))
