"""The thread that keeps what the processes share in step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

import redis

__all__ = ["Sync"]

log = logging.getLogger(__name__)
_PERIOD_SECONDS = 0.5


class _Refreshable(Protocol):
    def refresh(self) -> None: ...


class Sync:
    """Refreshes each part twice a second; an absence of Redis is logged once, when it begins."""

    def __init__(self, parts: Sequence[_Refreshable]) -> None:
        self._parts = parts
        self._stop = threading.Event()
        self._absent = False

    def refresh(self) -> None:
        """One round, now."""
        try:
            for part in self._parts:
                part.refresh()
        except redis.RedisError as error:
            if not self._absent:
                log.warning("Redis is away, this process keeps its own counts: %s", type(error).__name__)
            self._absent = True
            return
        self._absent = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="shared", daemon=True).start()

    def stop(self) -> None:
        """Tells the others what was counted since the last round: a limit must not open by a restart."""
        if not self._stop.is_set():
            self._stop.set()
            self.refresh()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self.refresh()
