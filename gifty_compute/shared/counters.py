"""Sums in Redis that all processes add to: tokens of a minute, dollars of a day."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import redis

from gifty_compute.clock import Clock

__all__ = ["RedisCounters"]

_PREFIX = "gifty:sum:"


@dataclass
class _Sum:
    known: float
    """What all processes together had added when we last asked."""
    unsent: float
    keep_seconds: float
    used_at: float


class RedisCounters:
    """Adds in memory; `refresh` carries what was added to Redis, and brings the sums of all back.

    Between two refreshes the processes do not see each other's additions. Without Redis each one has its
    own sums, and what it added is carried over when Redis is back.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._sums: dict[str, _Sum] = {}
        self._lock = threading.Lock()

    def add(self, name: str, amount: float, *, keep_seconds: float) -> None:
        with self._lock:
            found = self._sums.setdefault(name, _Sum(0.0, 0.0, keep_seconds, 0.0))
            found.unsent += amount
            found.used_at = self._clock.monotonic()

    def total(self, name: str) -> float:
        with self._lock:
            # A sum that only others add to is asked for with the next refresh, too.
            now = self._clock.monotonic()
            found = self._sums.setdefault(name, _Sum(0.0, 0.0, 0.0, now))
            found.used_at = now
            return found.known + found.unsent

    def refresh(self) -> None:
        """Raises redis.RedisError; what was not carried over stays here for the next time.

        An answer that is lost after Redis has added counts that addition twice: a limit errs towards less.
        """
        with self._lock:
            self._forget()
            sending = {name: (found.unsent, found.keep_seconds) for name, found in self._sums.items()}
        if not sending:
            return
        pipe = self._client.pipeline(transaction=True)
        for name, (amount, keep) in sending.items():
            if amount:
                pipe.incrbyfloat(_PREFIX + name, amount)
                pipe.expire(_PREFIX + name, max(1, round(keep)))
        for name in sending:
            pipe.get(_PREFIX + name)
        totals = pipe.execute()[-len(sending) :]
        with self._lock:
            for (name, (amount, _)), total in zip(sending.items(), totals, strict=True):
                self._sums[name].unsent -= amount
                self._sums[name].known = float(total or 0.0)

    def _forget(self) -> None:
        """Drops sums that nobody used for as long as they are kept."""
        now = self._clock.monotonic()
        old = [n for n, s in self._sums.items() if now - s.used_at > max(s.keep_seconds, 120.0)]
        for name in old:
            del self._sums[name]
