"""Time, as something that is passed in: a clock, and a deadline that shrinks as it is handed down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "Deadline", "SilenceDeadline", "SystemClock"]


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


class SilenceDeadline(Deadline):
    """The moment by which the next sign of life of a stream must come; each sign moves it.

    Until the first sign it is the moment that it was made with, afterwards `silence` seconds after the last
    sign. It is never more than `longest` seconds after it was made. One thread moves it while others may
    already wait by it.
    """

    silence: float
    longest: float
    last: float

    def __init__(self, first: Deadline, *, silence: float, longest: float) -> None:
        last = first.clock.monotonic() + longest
        super().__init__(min(first.at, last), first.clock)
        object.__setattr__(self, "silence", silence)
        object.__setattr__(self, "longest", longest)
        object.__setattr__(self, "last", last)

    def progress(self) -> None:
        """Something came: the silence begins anew."""
        object.__setattr__(self, "at", min(self.clock.monotonic() + self.silence, self.last))

    @property
    def is_last(self) -> bool:
        """Whether it has reached the end of the longest time, so that no sign moves it."""
        return self.at >= self.last
