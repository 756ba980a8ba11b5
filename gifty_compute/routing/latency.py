"""Latency: how fast each provider answered lately."""

from __future__ import annotations

import threading

from gifty_compute.clock import Clock
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["Latencies"]

# The newest answer's weight in the moving average: about the last ten count.
_WEIGHT = 0.2
# Half of what was measured is forgotten in this time: one that was slow once, as with a cold start, is asked
# again.
_HALF_LIFE_SECONDS = 60.0


class Latencies:
    """An observer that remembers the time of each answer by (provider, kind, whether it is streamed).

    Of a stream it is the time until the provider first sent something: long answers and thinking models are
    not slow providers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: dict[tuple[str, str, bool], tuple[float, float]] = {}
        """The average, and the moment of the newest answer."""
        self._lock = threading.Lock()

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        # A failure counts by its time as well: one that fails slowly is not fast.
        key = candidate.name, candidate.offer.ask_as, call.is_stream
        now = self._clock.monotonic()
        seconds = outcome.seconds if outcome.first_seconds is None else outcome.first_seconds
        with self._lock:
            before, _ = self._seconds.get(key, (seconds, now))
            self._seconds[key] = before + _WEIGHT * (seconds - before), now

    def seconds(self, candidate: Candidate, call: Call) -> float:
        """The moving average, less the older it is; 0 for one that was never asked, so that it is asked."""
        key = candidate.name, candidate.offer.ask_as, call.is_stream
        average, at = self._seconds.get(key, (0.0, 0.0))
        return average * 0.5 ** ((self._clock.monotonic() - at) / _HALF_LIFE_SECONDS) if average else 0.0
