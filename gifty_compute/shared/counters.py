"""Sums of a window that all processes add to, in Redis: requests and tokens of a minute."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from uuid import uuid4

import redis

from gifty_compute.clock import Clock
from gifty_compute.windows import Sum

__all__ = ["RedisCounters"]

_PREFIX = "gifty:sums:"


@dataclass
class _Entry:
    share: str
    """The field of this process's share; a sum that was forgotten here and is used again gets a new one."""
    own: float = 0.0
    """What this process has added."""
    is_sent: bool = False
    """Whether Redis has a share of ours, which may have to be corrected to 0."""
    others: dict[str, float] = field(default_factory=dict)
    """The share of each other process, as Redis said it last."""

    @property
    def total(self) -> float:
        return self.own + sum(self.others.values())


class RedisCounters:
    """Adds in memory; `refresh` carries this process's shares to Redis, and brings those of the others.

    A share is written as a whole, so a write whose answer is lost counts once. What was learnt from Redis is
    kept until the window is over: a Redis that lost its data gets the shares of all living processes again,
    and no process goes below what it knew. Between two refreshes the processes do not see each other's
    additions. Without Redis each process has its own sums.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._process, self._numbers = uuid4().hex, itertools.count()
        self._entries: dict[Sum, _Entry] = {}
        self._lock = threading.Lock()

    def add(self, to: Sum, amount: float) -> None:
        """Adds to the sum; a negative amount corrects an estimate."""
        with self._lock:
            self._entry(to).own += amount

    def take(self, of: Sum, amount: float, most: float) -> bool:
        """Adds the amount if the sum stays within `most`; False if it would not."""
        with self._lock:
            entry = self._entry(of)
            if entry.total + amount > most:
                return False
            entry.own += amount
            return True

    def total(self, of: Sum) -> float:
        """The sum as far as it is known here. A sum that only others add to comes with the next refresh."""
        with self._lock:
            return self._entry(of).total

    def refresh(self) -> None:
        """Raises redis.RedisError; the shares are then carried over the next time."""
        with self._lock:
            self._forget()
            shares = {one: (entry.share, entry.own) for one, entry in self._entries.items()}
            writing = {one for one, entry in self._entries.items() if entry.own or entry.is_sent}
            for one in writing:
                self._entries[one].is_sent = True
        if not shares:
            return
        pipe = self._client.pipeline(transaction=True)
        for one, (share, own) in shares.items():
            if one in writing:
                pipe.hset(_PREFIX + one.key, share, repr(own))
                pipe.expire(_PREFIX + one.key, one.keep_seconds)
        for one in shares:
            pipe.hgetall(_PREFIX + one.key)
        found = pipe.execute()[-len(shares) :]
        with self._lock:
            for one, (share, _), told in zip(shares, shares.values(), found, strict=True):
                self._learn(one, share, told)

    def _entry(self, of: Sum) -> _Entry:
        entry = self._entries.get(of)
        if entry is None:
            entry = self._entries[of] = _Entry(f"{self._process}.{next(self._numbers)}")
        return entry

    def _learn(self, one: Sum, share: str, told: dict[bytes, bytes]) -> None:
        """Takes over what the others say. A share that Redis has lost still counts here."""
        entry = self._entries.get(one)
        if entry is not None and entry.share == share:
            shares = {name.decode(): float(value) for name, value in told.items()}
            entry.others |= {name: value for name, value in shares.items() if name != share}

    def _forget(self) -> None:
        """Drops the sums of windows that are over: no limit asks for them, so no share is lost by it."""
        now = self._clock.now()
        for one in [known for known in self._entries if known.is_over(now)]:
            del self._entries[one]
