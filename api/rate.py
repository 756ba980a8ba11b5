"""Requests per minute of each client, counted over all processes of the service."""

from __future__ import annotations

from gifty_compute.core import Core
from gifty_compute.errors import OverLimit

__all__ = ["admit"]

_WINDOW_SECONDS = 60


def admit(core: Core, client: str) -> None:
    """Counts one request in the present minute. Raises OverLimit past `limits.requests_per_minute`."""
    most = core.logic.file.limits.requests_per_minute
    if most is None:
        return
    now = core.clock.now().timestamp()
    name = f"client/{client}/{int(now // _WINDOW_SECONDS)}"
    if core.high.counters.total(name) >= most:
        message = f"{client} may make {most} requests a minute"
        raise OverLimit(message, retry_after=_WINDOW_SECONDS - now % _WINDOW_SECONDS)
    core.high.counters.add(name, 1, keep_seconds=2 * _WINDOW_SECONDS)
