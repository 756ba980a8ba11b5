"""Ctrl-C and SIGTERM as events: the first asks for a stop, the next for haste."""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType, TracebackType

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered (in the main thread), signals set `stop`, then `hasten`.

    The handler itself does nothing: setting an event from it could meet its own thread inside the
    event's lock. The kernel's wakeup byte goes to a thread that sets the events.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hasten = threading.Event()

    def __enter__(self) -> Interrupts:
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writing.fileno())
        self._handlers = {number: signal.signal(number, _only_wake) for number in _SIGNALS}
        self._thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writing.close()
        self._thread.join()
        self._reading.close()

    def _listen(self) -> None:
        while received := self._reading.recv(16):
            for number in received:
                if number in _SIGNALS:
                    (self.hasten if self.stop.is_set() else self.stop).set()


def _only_wake(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor already carries the signal's number."""
