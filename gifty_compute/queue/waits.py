"""Waiting callers: one poller a process asks the store for all of them and wakes each in time."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from uuid import UUID

from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.store import TaskStore

__all__ = ["Waits"]

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class Waits:
    """At most `cap` callers wait; over it `wait` returns at once: answer with what is there."""

    def __init__(self, store: TaskStore, *, cap: int) -> None:
        self._store = store
        self._places = threading.BoundedSemaphore(cap)
        self._guard = threading.Condition()
        self._waiting: defaultdict[UUID, list[threading.Event]] = defaultdict(list)
        self._poller: threading.Thread | None = None

    def wait(self, task_id: UUID, seconds: float) -> None:
        """Returns when the task has ended, the seconds have passed, or there is no place to wait."""
        if seconds <= 0 or not self._places.acquire(blocking=False):
            return
        ended = threading.Event()
        try:
            with self._guard:
                self._waiting[task_id].append(ended)
                self._start_poller()
                self._guard.notify()
            ended.wait(seconds)
        finally:
            with self._guard:
                self._waiting[task_id].remove(ended)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]
            self._places.release()

    def _start_poller(self) -> None:
        if self._poller is None or not self._poller.is_alive():
            self._poller = threading.Thread(target=self._poll, name="waits", daemon=True)
            self._poller.start()

    def _poll(self) -> None:
        while True:
            with self._guard:
                while not self._waiting:
                    self._guard.wait()
                ids = list(self._waiting)
            try:
                ended = self._store.ended(ids)
            except StoreUnavailable as error:
                log.warning("waits: %s", error)
                ended = set()
            with self._guard:
                for task_id in ended:
                    for event in self._waiting.get(task_id, ()):
                        event.set()
                self._guard.wait(_POLL_SECONDS)
