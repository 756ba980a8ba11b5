"""Time, as something that is passed in: a clock, and a deadline that shrinks as it is handed down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "Deadline", "ExtendableDeadline", "SystemClock"]


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic(self) -> float:
        """Seconds that only grow; the zero means nothing."""
        ...

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Returns when so many seconds have passed."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock, by which an answer must be there."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        return cls(clock.monotonic() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def expired(self) -> bool:
        return self.clock.monotonic() >= self.at

    def share(self, fraction: float) -> Deadline:
        """The moment when this fraction of what is left will have passed."""
        return Deadline(self.clock.monotonic() + fraction * self.remaining, self.clock)


class ExtendableDeadline(Deadline):
    """A deadline that whoever made it may move, while others are already waiting by it."""

    def extend(self, to: Deadline) -> None:
        """From now on it is that moment."""
        object.__setattr__(self, "at", to.at)
