"""Liveness of pooled connections: a dead one is seen without a round trip."""

from __future__ import annotations

import select
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

__all__ = ["leave_the_dead"]


def leave_the_dead(engine: Engine) -> None:
    """Lets the pool replace a connection on which something waits to be read before anything was asked.

    It is a server's goodbye, or the end of its socket. A ping would find the same, 0.1 ms later in each call.
    """
    event.listen(engine, "checkout", _look)


def _look(connection: Any, *_: object) -> None:
    # Not select(): a facade with many callers has file descriptors over its limit of 1024.
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("the server has left this connection")
