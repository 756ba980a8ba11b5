"""How long to wait before the next try: exponential, with full jitter.

Full jitter is uniform on [0, min(cap, base * 2**n)]: of the schemes that AWS compared it needs the fewest
calls (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ["Backoff"]


@dataclass(frozen=True)
class Backoff:
    """Delays in seconds; `base` doubles with each failure up to `cap`."""

    base: float
    cap: float

    def ceiling(self, failures: int) -> float:
        """The longest delay after so many failures (1 is the first).

        >>> [Backoff(base=2, cap=600).ceiling(n) for n in (1, 2, 3, 20)]
        [2.0, 4.0, 8.0, 600]
        """
        return min(self.cap, self.base * float(2 ** min(max(failures, 1) - 1, 32)))

    def delay(self, failures: int, rng: Random) -> float:
        """A delay somewhere between none and the ceiling."""
        return rng.uniform(0.0, self.ceiling(failures))
