"""Pauses: how long a poll worker waits before it asks again."""

from __future__ import annotations

from random import Random

from gifty_compute.backoff import Backoff
from gifty_compute.errors import GiftyComputeError, Unavailable
from gifty_compute.perform import Verdict

__all__ = ["Pauses"]

# Nothing to do: a new task waits two seconds at most, where the server cannot hold the question open.
_IDLE = Backoff(base=0.1, cap=2.0)
# No answer to a claim, or a machine on which every task fails: it must not race through the queue.
_TROUBLE = Backoff(base=0.5, cap=30.0)


class Pauses:
    """Grow as long as the same thing happens, and begin anew after work that was done."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._refused = self._barren = 0

    def after_refusal(self, error: GiftyComputeError) -> float:
        """What the server asked for, and jitter on top: workers told the same must not come back as one."""
        self._refused += 1
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        return asked + _TROUBLE.delay(self._refused, self._rng)

    def answered(self) -> None:
        """A claim was answered."""
        self._refused = 0

    def after_nothing(self) -> float:
        """Between half and all of a delay that grows, so that it never spins."""
        self._barren += 1
        return _IDLE.ceiling(self._barren) * self._rng.uniform(0.5, 1.0)

    def after_work(self, verdict: Verdict) -> float:
        """None, unless all of the work failed."""
        if not verdict.claimed:
            return 0.0
        if verdict.done or not verdict.failed:
            self._barren = 0
            return 0.0
        self._barren += 1
        return _TROUBLE.ceiling(self._barren) * self._rng.uniform(0.5, 1.0)
