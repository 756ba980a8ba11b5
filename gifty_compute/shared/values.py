"""Values in Redis that all processes put in and get, each for a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import cast

import redis

from gifty_compute.clock import Clock

__all__ = ["RedisValues"]

log = logging.getLogger(__name__)

_PREFIX = "gifty:value:"
_REST_SECONDS = 5.0


class RedisValues:
    """Gets and puts in one round trip each; without Redis nothing is found and nothing is kept.

    After an error Redis is left alone for 5 s by all callers, then one of them tries for all. An absence is
    logged once, when it begins.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        """The client's socket timeout bounds how long a call takes; its answers must be bytes."""
        self._client, self._clock = client, clock
        self._lock = threading.Lock()
        self._absent = False
        self._again_at = 0.0

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """A value or None for each key, in their order. Never raises."""
        nothing: list[bytes | None] = [None] * len(keys)
        if not self._may_ask():
            return nothing
        try:
            found = cast("list[bytes | None]", self._client.mget([_PREFIX + key for key in keys]))
        except redis.RedisError as error:
            self._rest(error)
            return nothing
        self._absent = False
        return found

    def put(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keeps the values for so long, as far as Redis takes them. Never raises."""
        if not self._may_ask():
            return
        pipe = self._client.pipeline(transaction=False)
        for key, value in items.items():
            pipe.set(_PREFIX + key, value, px=max(1, round(ttl_seconds * 1000)))
        try:
            pipe.execute()
        except redis.RedisError as error:
            self._rest(error)
            return
        self._absent = False

    def _may_ask(self) -> bool:
        if not self._absent:
            return True
        with self._lock:
            now = self._clock.monotonic()
            if now < self._again_at:
                return False
            # This caller tries; the others learn from how it went.
            self._again_at = now + _REST_SECONDS
            return True

    def _rest(self, error: redis.RedisError) -> None:
        with self._lock:
            if not self._absent:
                log.warning("values in Redis are left alone: %s", type(error).__name__)
            self._absent = True
            self._again_at = self._clock.monotonic() + _REST_SECONDS
