"""Patience: how long PostgreSQL may say nothing. It keeps a statement's limit itself, as long as it runs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as _Connection

from gifty_compute.clock import Clock

__all__ = ["Patience"]

_LOOKS_EVERY_SECONDS = 0.5


class Patience:
    """Hangs up on connections whose answer is overdue: the driver waits for one without any limit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[int, tuple[_Connection, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._of_process = 0

    def begin(self, connection: _Connection, seconds: float) -> None:
        """From now on the answer on this connection is awaited so long; a second call begins anew."""
        self._waiting[id(connection)] = connection, self._clock.monotonic() + seconds
        if self._of_process != os.getpid():
            self._start()

    def end(self, connection: _Connection) -> None:
        """It is there, or nobody waits for it any more."""
        self._waiting.pop(id(connection), None)

    @contextmanager
    def within(self, connection: _Connection, seconds: float) -> Iterator[None]:
        """The same, for all that the block waits for."""
        self.begin(connection, seconds)
        try:
            yield
        finally:
            self.end(connection)

    def close(self) -> None:
        self._stop.set()

    def _start(self) -> None:
        # Of a forked process no thread but the one that forked is left.
        with self._lock:
            if self._of_process != os.getpid():
                self._of_process = os.getpid()
                threading.Thread(target=self._watch, name="database-patience", daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOKS_EVERY_SECONDS):
            now = self._clock.monotonic()
            for connection, until in list(self._waiting.values()):
                if until < now:
                    self.end(connection)
                    _hang_up(connection)


def _hang_up(connection: _Connection) -> None:
    """The thread that waits sees the connection end; what is closed here is a copy of its descriptor."""
    # It may have ended, or been closed, by itself just now.
    with (
        suppress(OSError, psycopg2.InterfaceError),
        socket.socket(fileno=os.dup(connection.fileno())) as copy,
    ):
        copy.shutdown(socket.SHUT_RDWR)
