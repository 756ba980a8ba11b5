"""Connecting within a deadline: names are looked up aside, and the addresses of a name share the time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

from gifty_compute.clock import Deadline

__all__ = ["Dialer"]

_Info: TypeAlias = tuple[Any, Any, int, str, Any]
"""What socket.getaddrinfo tells of an address."""
_LookUp: TypeAlias = Callable[[str, int], list[_Info]]

_look_up: _LookUp = partial(socket.getaddrinfo, type=socket.SOCK_STREAM)


class Dialer:
    """Opens connections. The system's look-up of a name has no limit and cannot be ended: a thread does it.

    There is one such thread for a name at most: those that ask at the same time wait for the same answer,
    and whoever's time is over leaves.
    """

    def __init__(self, look_up: _LookUp = _look_up) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], Future[list[_Info]]] = {}

    def connect(
        self, host: str, port: int, deadline: Deadline, options: Iterable[tuple[int, int, int | bytes]] = ()
    ) -> socket.socket:
        """The first connection that stands. Each address gets its part of what is left for all that remain.

        Raises TimeoutError when time is over, and OSError where the name or all of its addresses fail.
        """
        addresses = self._addresses(host, port, deadline)
        error = OSError(f"{host} has no address")
        for position, (family, kind, protocol, _, address) in enumerate(addresses):
            made = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    made.setsockopt(*option)
                made.settimeout(_some(deadline.remaining / (len(addresses) - position)))
                made.connect(address)
            except OSError as failed:
                made.close()
                error = failed
                continue
            made.settimeout(_some(deadline.remaining))
            return made
        raise error

    def _addresses(self, host: str, port: int, deadline: Deadline) -> list[_Info]:
        with self._lock:
            pending = self._pending.get((host, port))
            if pending is None:
                pending = Future()
                threading.Thread(target=self._find, args=(host, port, pending), daemon=True).start()
                self._pending[host, port] = pending
        return pending.result(deadline.remaining)

    def _find(self, host: str, port: int, pending: Future[list[_Info]]) -> None:
        try:
            found, error = self._look_up(host, port), None
        except OSError as failed:
            found, error = [], failed
        except UnicodeError as failed:
            found, error = [], OSError(f"{host} is no name: {failed}")
        with self._lock:
            del self._pending[host, port]
        if error is None:
            pending.set_result(found)
        else:
            pending.set_exception(error)


def _some(seconds: float) -> float:
    """A timeout of 0 would mean a socket that never waits."""
    return max(seconds, 0.001)
