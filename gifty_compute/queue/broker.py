"""The broker's address in the words of each library that dials it."""

from __future__ import annotations

__all__ = ["broker_url"]


def broker_url(redis_url: str) -> str:
    """A redis-py URL as kombu spells it; only that of a unix socket differs.

    >>> broker_url("redis://:secret@localhost:6379/0")
    'redis://:secret@localhost:6379/0'
    >>> broker_url("unix://:secret@/run/valkey.sock?db=1")
    'redis+socket://:secret@/run/valkey.sock?virtual_host=1'
    """
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
