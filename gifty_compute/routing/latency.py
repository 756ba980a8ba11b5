"""Latency: how fast each provider answered lately."""

from __future__ import annotations

import threading

from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["Latencies"]

# The newest answer's weight in the moving average: about the last ten count.
_WEIGHT = 0.2


class Latencies:
    """An observer that remembers the time of each answer by (provider, kind)."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        # A failure counts by its time as well: one that fails slowly is not fast.
        key = candidate.name, candidate.offer.ask_as
        with self._lock:
            before = self._seconds.get(key, outcome.seconds)
            self._seconds[key] = before + _WEIGHT * (outcome.seconds - before)

    def seconds(self, candidate: Candidate) -> float:
        """The moving average; 0 for one that was never asked, so that it is asked."""
        return self._seconds.get((candidate.name, candidate.offer.ask_as), 0.0)
