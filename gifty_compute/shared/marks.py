"""Marks of open circuits in Redis, so that one process's bad experience spares the others theirs."""

from __future__ import annotations

import logging
import math
import threading
from typing import NamedTuple
from uuid import uuid4

import redis

from gifty_compute.clock import Clock

__all__ = ["RedisMarks"]

log = logging.getLogger(__name__)

_OPEN = "gifty:circuits"
_CAUSES = "gifty:circuits:causes"
_RESETS = "gifty:circuits:resets"
_TRIAL = "gifty:trial:"
# Set once by the process that comes first, and gone with the marks where Redis loses its data.
_MEMORY = "gifty:circuits:memory"

# A circuit without a trial for so long after its time was over is forgotten; so is a reset.
_FORGET_SECONDS = 3600
_CLOSED = float("-inf")

# The moments are of Redis's own clock: the processes' clocks need not agree. What was seen before a reset
# opens nothing after it, in whichever order processes tell.
_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
_ADD = f"""{_NOW}
local left, age, name, cause = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local reset, old = redis.call('ZSCORE', KEYS[3], name), redis.call('ZSCORE', KEYS[1], name)
-- A tenth of a second is what two processes' words may differ by on their way.
if reset and tonumber(reset) >= now - age - 100 then return end
if old and tonumber(old) >= now + left then return end
redis.call('ZADD', KEYS[1], now + left, name)
redis.call('HSET', KEYS[2], name, cause)
"""
_RESET = f"""{_NOW}
redis.call('ZADD', KEYS[3], 'GT', now - tonumber(ARGV[1]), ARGV[2])
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[2])
"""
_LIST = f"""{_NOW}
redis.call('SET', KEYS[4], ARGV[1], 'NX')
local limit = now - {_FORGET_SECONDS * 1000}
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', limit)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', limit, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
local open, resets = {{}}, redis.call('ZRANGE', KEYS[3], 0, 999, 'WITHSCORES')
local found = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for i = 1, #found, 2 do
  open[#open + 1] = {{found[i], tostring(found[i + 1] - now), redis.call('HGET', KEYS[2], found[i]) or ''}}
end
for i = 2, #resets, 2 do resets[i] = tostring(now - resets[i]) end
return {{redis.call('GET', KEYS[4]), open, resets}}
"""
_KEYS = (_OPEN, _CAUSES, _RESETS)


class _Word(NamedTuple):
    """What the others shall be told of a circuit."""

    until: float | None
    """When it ends, by the monotonic clock; _CLOSED; None for a trial that is over."""
    at: float
    """When this was so."""
    cause: str = ""


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
        self._causes: dict[str, str] = {}
        self._resets: dict[str, float] = {}
        self._told: dict[str, _Word] = {}
        """Since the last refresh."""
        self._told_resets: dict[str, float] = {}
        self._memory = b""
        """Names the data of the Redis that was asked last."""
        self._lock = threading.Lock()

    def remaining(self, name: str) -> float:
        until = self._until.get(name)
        return 0.0 if until is None else max(0.0, until - self._clock.monotonic())

    def half_open(self, name: str) -> bool:
        until = self._until.get(name)
        return until is not None and until <= self._clock.monotonic()

    def cause(self, name: str) -> str:
        return self._causes.get(name, "")

    def names(self) -> list[str]:
        return list(self._until)

    def open(self, name: str, seconds: float, cause: str = "") -> None:
        now = self._clock.monotonic()
        with self._lock:
            before = self._told.get(name)
            if before is None or before.until is None or before.until < now + seconds:
                self._told[name] = _Word(now + seconds, now, cause)

    def close(self, name: str) -> None:
        with self._lock:
            self._told[name] = _Word(_CLOSED, self._clock.monotonic())
            self._until.pop(name, None)

    def reset(self, name: str) -> None:
        with self._lock:
            self._told_resets[name] = self._resets[name] = self._clock.monotonic()
            self._told[name] = _Word(_CLOSED, self._resets[name])
            self._until.pop(name, None)

    def was_reset(self, name: str, since: float) -> bool:
        return self._resets.get(name, -math.inf) >= since

    def give_up(self, name: str) -> None:
        with self._lock:
            self._told.setdefault(name, _Word(None, self._clock.monotonic()))

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
            resets, self._told_resets = self._told_resets, {}
        try:
            self._tell(told, resets)
            memory, marks, found_resets = self._list()
            if self._memory and memory != self._memory:
                log.warning("Redis has lost its data, and is told again of open circuits")
                self._tell(self._known(), dict(self._resets))
                memory, marks, found_resets = self._list()
        except redis.RedisError:
            with self._lock:
                self._told = {**told, **self._told}
                self._told_resets = {**resets, **self._told_resets}
            raise
        self._memory = memory
        self._take(marks, found_resets)

    def _list(self) -> tuple[bytes, list[list[bytes]], list[bytes]]:
        """What names the data of Redis, the marks, and the resets."""
        found = self._client.eval(_LIST, len(_KEYS) + 1, *_KEYS, _MEMORY, uuid4().hex)
        assert isinstance(found, list)
        return found[0], found[1], found[2]

    def _known(self) -> dict[str, _Word]:
        """What Redis said last; what this process closed since is not among it."""
        now = self._clock.monotonic()
        with self._lock:
            return {
                name: _Word(until, now, self._causes.get(name, "")) for name, until in self._until.items()
            }

    def _take(self, marks: list[list[bytes]], resets: list[bytes]) -> None:
        """What all processes said, but for what this one has said meanwhile."""
        now = self._clock.monotonic()
        with self._lock:
            closed = {name for name, word in self._told.items() if word.until == _CLOSED}
            named = [(name.decode(), float(left) / 1000, cause.decode()) for name, left, cause in marks]
            open_ = [one for one in named if one[0] not in closed]
            self._until = {name: now + left for name, left, _ in open_}
            self._causes = {name: cause for name, _, cause in open_}
            ages = zip(resets[::2], resets[1::2], strict=True)
            self._resets = {name.decode(): now - float(age) / 1000 for name, age in ages} | self._told_resets

    def _tell(self, told: dict[str, _Word], resets: dict[str, float]) -> None:
        if not told and not resets:
            return
        now = self._clock.monotonic()
        pipe = self._client.pipeline(transaction=True)
        for name, at in resets.items():
            pipe.eval(_RESET, len(_KEYS), *_KEYS, str(round((now - at) * 1000)), name)
        for name, word in told.items():
            pipe.delete(_TRIAL + name)
            if word.until == _CLOSED:
                pipe.zrem(_OPEN, name)
                pipe.hdel(_CAUSES, name)
            elif word.until is not None:
                left, age = round((word.until - now) * 1000), round((now - word.at) * 1000)
                pipe.eval(_ADD, len(_KEYS), *_KEYS, str(left), str(age), name, word.cause)
        pipe.execute()
