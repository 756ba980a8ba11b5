"""Marks of open circuits in Redis, so that one process's bad experience spares the others theirs."""

from __future__ import annotations

import logging
import threading
from uuid import uuid4

import redis

from gifty_compute.clock import Clock

__all__ = ["RedisMarks"]

log = logging.getLogger(__name__)

_OPEN = "gifty:circuits"
_TRIAL = "gifty:trial:"
# Set once by the process that comes first, and gone with the marks where Redis loses its data.
_MEMORY = "gifty:circuits:memory"

# A circuit that nobody has tried for so long after its time was over is forgotten.
_FORGET_SECONDS = 3600
_CLOSED = float("-inf")

# The moments are of Redis's own clock: the processes' clocks need not agree.
_ADD = """
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'GT', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
"""
# Whose memory it is, then the marks.
_LIST = f"""
redis.call('SET', KEYS[2], ARGV[1], 'NX')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {_FORGET_SECONDS * 1000})
local found = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for i = 2, #found, 2 do found[i] = tostring(found[i] - now) end
table.insert(found, 1, redis.call('GET', KEYS[2]))
return found
"""


class RedisMarks:
    """Reads from memory what `refresh` fetched, and leaves to it what the others shall be told.

    So no caller waits for Redis; only a half-open circuit's trial, which is rare, asks it at once. A mark
    stays when its time is over, until the circuit is closed: it is half-open then, for all. Without Redis
    each process knows only its own circuits, and tells of them when Redis is back. A Redis that lost its data
    is told again of all marks that this process knows of.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        """The client's socket timeout bounds how long `trial` takes."""
        self._client, self._clock = client, clock
        self._until: dict[str, float] = {}
        self._told: dict[str, float | None] = {}
        """Since the last refresh: until when a circuit is open, _CLOSED, or None for a trial that is over."""
        self._memory = b""
        """Of the Redis that was asked last."""
        self._lock = threading.Lock()

    def remaining(self, name: str) -> float:
        until = self._until.get(name)
        return 0.0 if until is None else max(0.0, until - self._clock.monotonic())

    def half_open(self, name: str) -> bool:
        until = self._until.get(name)
        return until is not None and until <= self._clock.monotonic()

    def open(self, name: str, seconds: float) -> None:
        with self._lock:
            until = self._clock.monotonic() + seconds
            self._told[name] = max(self._told.get(name) or _CLOSED, until)

    def close(self, name: str) -> None:
        with self._lock:
            self._told[name] = _CLOSED
            self._until.pop(name, None)

    def give_up(self, name: str) -> None:
        with self._lock:
            self._told.setdefault(name, None)

    def trial(self, name: str, seconds: float) -> bool:
        try:
            return bool(self._client.set(_TRIAL + name, "1", nx=True, px=round(seconds * 1000)))
        except redis.RedisError:
            # Alone, this process tries by itself: one trial too many harms nobody.
            return True

    def refresh(self) -> None:
        """Tells the others, and fetches what all said.

        Raises redis.RedisError; then it is told the next time.
        """
        with self._lock:
            told, self._told = self._told, {}
        try:
            self._tell(told)
            found = self._list()
            if self._memory and found[0] != self._memory:
                log.warning("Redis has lost its data, and is told again of open circuits")
                self._tell(self._known())
                found = self._list()
        except redis.RedisError:
            with self._lock:
                self._told = {**told, **self._told}
            raise
        memory, marks = found[0], found[1:]
        now = self._clock.monotonic()
        until = {
            name.decode(): now + float(left) / 1000
            for name, left in zip(marks[::2], marks[1::2], strict=True)
        }
        with self._lock:
            self._memory = memory
            closed = {name for name, moment in self._told.items() if moment == _CLOSED}
            self._until = {name: moment for name, moment in until.items() if name not in closed}

    def _list(self) -> list[bytes]:
        found = self._client.eval(_LIST, 2, _OPEN, _MEMORY, uuid4().hex)
        assert isinstance(found, list)
        return found

    def _known(self) -> dict[str, float | None]:
        """What Redis said last; what this process closed since is not among it."""
        with self._lock:
            return dict(self._until)

    def _tell(self, told: dict[str, float | None]) -> None:
        if not told:
            return
        now = self._clock.monotonic()
        pipe = self._client.pipeline(transaction=True)
        for name, moment in told.items():
            pipe.delete(_TRIAL + name)
            if moment == _CLOSED:
                pipe.zrem(_OPEN, name)
            elif moment is not None:
                pipe.eval(_ADD, 1, _OPEN, name, str(round((moment - now) * 1000)))
        pipe.execute()
