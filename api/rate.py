"""What a client may use: requests, tokens and dollars, counted over all processes of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gifty_compute.core import Core
from gifty_compute.routing.call import Call

__all__ = ["admit", "admitted"]


def admit(core: Core, client: str) -> None:
    """Counts one request in the present minute. Raises OverLimit past the client's limit."""
    core.high.clients.admit_request(core.logic.file, client)


@contextmanager
def admitted(core: Core, call: Call) -> Iterator[None]:
    """The call counts with its estimated tokens as long as the block runs.

    Raises OverLimit past the client's tokens or dollars; Unavailable while its dollars are not known.
    """
    leave = core.high.clients.admit(call)
    try:
        yield
    finally:
        leave()
