"""Programs that die at a named point, once: between what is committed and whatever should come next.

A point is armed by writing its name into the file of CRASH_POINT. `sql:NAME` is just after that statement
has given rows; the others are named where they are planted. Whoever comes there first takes the file away
and ends as by kill -9.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gifty_compute.poll.client import PollClient
from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.database import Database

_ARMED = Path(os.environ["CRASH_POINT"])


def die_at(point: str) -> None:
    try:
        if _ARMED.read_text() != point:
            return
        _ARMED.unlink()
    except FileNotFoundError:
        return
    os._exit(137)


def plant() -> None:
    """Plants all points into this process."""
    rows_on = Database.rows_on

    def rows_and_die(connection: Any, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        rows = rows_on(connection, query, **parameters)
        if rows:
            die_at(f"sql:{query}")
        return rows

    Database.rows_on = staticmethod(rows_and_die)  # type: ignore[method-assign]
    _die_after(Announcer, "announce")
    for verb in ("claim", "report", "extend", "release"):
        _die_after(PollClient, verb)


def _die_after(owner: type, name: str) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        answer = method(self, *arguments, **named)
        if name != "claim" or answer.tasks:
            die_at(f"{owner.__name__}.{name}")
        return answer

    setattr(owner, name, call)


plant()
