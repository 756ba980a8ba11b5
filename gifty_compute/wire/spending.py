"""Spending as values: dollars by day, provider, model and client."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

__all__ = ["Amount", "Line", "Written"]

# So many attempts without a price, and none with one: nothing can be counted.
_BLIND_ANSWERS = 3


@dataclass(frozen=True)
class Amount:
    """Dollars, and the attempts that they were paid for."""

    usd: float = 0.0
    estimated_usd: float = 0.0
    """The part of `usd` that is our estimate."""
    answers: int = 0
    """Attempts that are counted, those whose answer was thrown away included."""
    unpriced: int = 0
    """Of these, attempts with a part whose price is unknown."""

    @property
    def reckoned_usd(self) -> float:
        """`usd`, and for each attempt without a price the mean of the others; endless where several have been
        made and none has a price, so that no budget is passed unseen."""
        priced = self.answers - self.unpriced
        if priced:
            return self.usd * self.answers / priced
        return self.usd if self.answers < _BLIND_ANSWERS else math.inf

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.usd + other.usd,
            self.estimated_usd + other.estimated_usd,
            self.answers + other.answers,
            self.unpriced + other.unpriced,
        )

    def __sub__(self, other: Amount) -> Amount:
        return self + Amount(-other.usd, -other.estimated_usd, -other.answers, -other.unpriced)


@dataclass(frozen=True)
class Line:
    """What one client's work cost at one provider by one model on one day (UTC)."""

    day: date
    provider: str
    model: str
    """The provider's own id of it."""
    client: str


Written = Sequence[tuple[Line, Amount]]
