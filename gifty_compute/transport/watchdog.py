"""The watchdog: ends the connection of every exchange whose deadline has passed, wherever it is."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import threading

from gifty_compute.clock import Deadline

__all__ = ["Watch", "Watchdog"]


class Watch:
    """One exchange under the watchdog's eye."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.due = deadline.at
        """When the watchdog looks at it."""
        self.socket: socket.socket | None = None
        self.ended = self.is_over = self.was_sent = False


class Watchdog:
    """One thread that shuts down the sockets of exchanges whose deadline has passed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, Watch]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def begin(self, watch: Watch) -> None:
        with self._changed:
            heapq.heappush(self._queue, (watch.deadline.at, next(self._numbers), watch))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="transport", daemon=True)
                self._thread.start()
            if self._queue[0][2] is watch:
                self._changed.notify()

    def look_again(self, watch: Watch) -> None:
        """To be called after the deadline may have moved: if it came nearer, it is looked at then."""
        if watch.deadline.at < watch.due:
            watch.due = watch.deadline.at
            self.begin(watch)

    def end(self, watch: Watch) -> None:
        with self._changed:
            watch.ended, watch.socket = True, None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                if not self._queue:
                    self._changed.wait()
                    continue
                at, number, watch = self._queue[0]
                left = 0.0 if watch.ended else watch.deadline.remaining
                if left > 0 and at >= watch.deadline.at:
                    self._changed.wait(left)
                elif left > 0:
                    # It was moved, and others may be due before it now.
                    heapq.heapreplace(self._queue, (watch.deadline.at, number, watch))
                    watch.due = watch.deadline.at
                else:
                    heapq.heappop(self._queue)
                    self._look(watch)

    def _look(self, watch: Watch) -> None:
        if watch.ended:
            return
        watch.is_over = True
        if watch.socket is not None:
            with contextlib.suppress(OSError):  # it may be gone already, which is what is wanted
                watch.socket.shutdown(socket.SHUT_RDWR)
