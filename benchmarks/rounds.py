"""Things compared side by side: each round runs all of them, so that a busy neighbour hurts all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Case", "Compared", "compare"]

Case = Callable[[], int]
"""Does something a number of times, and says how often."""


@dataclass
class Compared:
    """How many a second, by name and round."""

    rates: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        return statistics.median(self.rates[name])

    def ratio(self, name: str, to: str) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(a / b for a, b in zip(self.rates[name], self.rates[to], strict=True))


def compare(
    rounds: int, cases: Mapping[str, Case], *, before: Callable[[], object] = lambda: None
) -> Compared:
    """Runs `before` and then a case, for all cases, so many rounds; one more round in front warms up."""
    found = Compared({name: [] for name in cases})
    for number in range(rounds + 1):
        for name, case in cases.items():
            before()
            began = time.perf_counter()
            times = case()
            if number:
                found.rates[name].append(times / (time.perf_counter() - began))
    return found
