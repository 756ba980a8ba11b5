"""How many tasks of one client may wait: counted now and then, and between two counts up to a bound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from gifty_compute.clock import Clock
from gifty_compute.errors import OverLimit
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database

__all__ = ["QueueDepth"]

# A count reads each row that waits, about 0.5 ms for a thousand. So it is made once for an eighth of the room
# that was left (other processes count for themselves), and the longer it takes, the longer it holds.
_SHARE_OF_THE_ROOM = 1 / 8
_LEAST_SHARE_OF_THE_LIMIT = 1 / 1000
_ROOM_SECONDS, _FULL_SECONDS = 30.0, 2.0
_TIMES_ITS_OWN_LENGTH = 20.0


@dataclass
class _Room:
    """What the last count said of a client."""

    limit: int
    left: int
    full: bool
    until: float


class QueueDepth:
    """`limits.queue_depth` for each client's lane. Processes may pass the limit together, by a little."""

    def __init__(self, database: Database, logic: Callable[[], Logic], clock: Clock) -> None:
        self._db, self._logic, self._clock = database, logic, clock
        self._guard = threading.Lock()
        self._rooms: dict[str, _Room] = {}
        self._counting: set[str] = set()

    def admit(self, client: str) -> None:
        """Raises OverLimit when as many tasks of this client are waiting as may."""
        limit = self._logic().file.limits.queue_depth
        with self._guard:
            room, now = self._rooms.get(client), self._clock.monotonic()
            known = room is not None and room.limit == limit and now < room.until
            if room is not None and known and room.full:
                self._refuse(client, room, now)
            # Whoever comes while somebody counts is let in.
            if (room is not None and known and room.left > 0) or client in self._counting:
                return
            self._counting.add(client)
        try:
            room = self._count(client, limit)
        finally:
            with self._guard:
                self._counting.discard(client)
        if room.full:
            self._refuse(client, room, self._clock.monotonic())

    def add(self, client: str, tasks: int = 1) -> None:
        """That many more are waiting."""
        with self._guard:
            if (room := self._rooms.get(client)) is not None:
                room.left -= tasks

    def _count(self, client: str, limit: int) -> _Room:
        began = self._clock.monotonic()
        row = self._db.row("depth", lane=client, enough=limit)
        waiting = int(row["waiting"]) if row is not None else 0
        now = self._clock.monotonic()
        full = waiting >= limit
        share = max((limit - waiting) * _SHARE_OF_THE_ROOM, limit * _LEAST_SHARE_OF_THE_LIMIT, 1)
        seconds = max(_FULL_SECONDS if full else _ROOM_SECONDS, (now - began) * _TIMES_ITS_OWN_LENGTH)
        room = _Room(limit, 0 if full else int(share), full, now + seconds)
        with self._guard:
            self._rooms[client] = room
        return room

    @staticmethod
    def _refuse(client: str, room: _Room, now: float) -> None:
        message = f"{room.limit} tasks of {client} are waiting, as many as may; come back when some are done"
        raise OverLimit(message, retry_after=max(1.0, room.until - now))
