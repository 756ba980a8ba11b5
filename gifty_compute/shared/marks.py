"""Marks of open circuits in Redis, so that one process's bad experience spares the others theirs."""

from __future__ import annotations

import logging

import redis

from gifty_compute.clock import Clock

__all__ = ["RedisMarks"]

log = logging.getLogger(__name__)

_OPEN = "gifty:circuits"
_TRIAL = "gifty:trial:"

# The moments are of Redis's own clock: the processes' clocks need not agree.
_ADD = """
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'GT', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
"""
_LIST = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local found = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for i = 2, #found, 2 do found[i] = tostring(found[i] - now) end
return found
"""


class RedisMarks:
    """Reads from memory what `refresh` fetched; writes at once, which happens when a circuit changes.

    Without Redis each process knows only its own circuits.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        """The client's socket timeout bounds how long a change of a circuit takes."""
        self._client, self._clock = client, clock
        self._until: dict[str, float] = {}

    def remaining(self, name: str) -> float:
        until = self._until.get(name)
        return 0.0 if until is None else max(0.0, until - self._clock.monotonic())

    def open(self, name: str, seconds: float) -> None:
        try:
            self._client.eval(_ADD, 1, _OPEN, name, str(round(seconds * 1000)))
        except redis.RedisError as error:
            log.warning("other processes are not told that %s is open: %s", name, type(error).__name__)

    def close(self, name: str) -> None:
        self._until.pop(name, None)
        try:
            self._client.zrem(_OPEN, name)
            self._client.delete(_TRIAL + name)
        except redis.RedisError as error:
            log.warning("other processes are not told that %s is closed: %s", name, type(error).__name__)

    def trial(self, name: str, seconds: float) -> bool:
        try:
            return bool(self._client.set(_TRIAL + name, "1", nx=True, px=round(seconds * 1000)))
        except redis.RedisError:
            # Alone, this process tries by itself: one trial too many harms nobody.
            return True

    def refresh(self) -> None:
        """Fetches what all processes said. Raises redis.RedisError."""
        found = self._client.eval(_LIST, 1, _OPEN)
        assert isinstance(found, list)
        now = self._clock.monotonic()
        names, lefts = found[::2], found[1::2]
        self._until = {
            name.decode(): now + float(left) / 1000 for name, left in zip(names, lefts, strict=True)
        }
