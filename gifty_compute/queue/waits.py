"""Waiting callers: one poller a process for each question asks for all of them, and wakes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.wire.task import Want

__all__ = ["Poller", "Waits"]

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05

_Key = TypeVar("_Key")


class Waits:
    """Threads that wait for an end or for work. How many there may be is for the caller to bound."""

    def __init__(self, tasks: TaskStore, leases: LeaseStore) -> None:
        self._tasks, self._leases = tasks, leases
        self._ends: Poller[UUID] = Poller("waits for ends", self._ended)
        self._work: Poller[tuple[str, str]] = Poller("waits for work", leases.ready)

    def wait(self, task_id: UUID, seconds: float) -> None:
        """Returns when the task has ended or the seconds have passed."""
        if seconds > 0:
            self._ends.wait([task_id], seconds)

    def wait_for_work(self, want: Want, seconds: float) -> bool:
        """Whether there is something ready of what is wanted, before the seconds have passed.

        As many callers are woken as rows are ready; another process's callers may be faster all the same.
        """
        pairs = self._leases.offered(want)
        return seconds > 0 and self._work.wait(pairs, seconds)

    def _ended(self, ids: list[UUID]) -> dict[UUID, int]:
        """All who wait for an ended task are woken."""
        return dict.fromkeys(self._tasks.ended(ids), len(ids))


@dataclass(eq=False)
class _Caller(Generic[_Key]):
    keys: Sequence[_Key]
    woken: threading.Event = field(default_factory=threading.Event)


class Poller(Generic[_Key]):
    """Wakes callers that wait for one of several keys. `ask` says of each key how many of them to wake."""

    def __init__(self, name: str, ask: Callable[[list[_Key]], Mapping[_Key, int]]) -> None:
        self._name, self._ask = name, ask
        self._guard = threading.Condition()
        self._waiting: dict[_Caller[_Key], None] = {}
        self._thread: threading.Thread | None = None

    def wait(self, keys: Sequence[_Key], seconds: float) -> bool:
        """Whether the caller was woken before the seconds had passed."""
        caller = _Caller(keys)
        with self._guard:
            self._waiting[caller] = None
            self._start()
            self._guard.notify()
        try:
            return caller.woken.wait(seconds)
        finally:
            with self._guard:
                self._waiting.pop(caller, None)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._poll, name=self._name, daemon=True)
            self._thread.start()

    def _poll(self) -> None:
        while True:
            with self._guard:
                while not self._waiting:
                    self._guard.wait()
                keys = list({key: None for caller in self._waiting for key in caller.keys})
            answered = self._answer(keys) if keys else {}
            with self._guard:
                self._wake(dict(answered))
                self._guard.wait(_POLL_SECONDS)

    def _answer(self, keys: list[_Key]) -> Mapping[_Key, int]:
        try:
            return self._ask(keys)
        except StoreUnavailable as error:
            log.warning("%s: %s", self._name, error)
            return {}

    def _wake(self, left: dict[_Key, int]) -> None:
        """In the order of their coming."""
        for caller in list(self._waiting):
            found = next((key for key in caller.keys if left.get(key, 0) > 0), None)
            if found is not None:
                left[found] -= 1
                del self._waiting[caller]
                caller.woken.set()
