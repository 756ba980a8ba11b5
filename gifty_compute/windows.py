"""Windows of the wall clock, and sums that belong to one window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

__all__ = ["DAY", "MINUTE", "Sum", "Window"]

MINUTE = 60
DAY = 86_400


@dataclass(frozen=True)
class Window:
    """The part of the wall clock, in UTC, with this number among those of this length."""

    seconds: int
    number: int

    @classmethod
    def at(cls, moment: datetime, seconds: int) -> Window:
        """The window that holds this moment.

        >>> from datetime import UTC
        >>> Window.at(datetime(1970, 1, 1, 0, 1, 59, tzinfo=UTC), MINUTE)
        Window(seconds=60, number=1)
        """
        return cls(seconds, math.floor(moment.timestamp() / seconds))

    def left(self, moment: datetime) -> float:
        """Seconds from this moment to the window's end; negative when it is over."""
        return (self.number + 1) * self.seconds - moment.timestamp()


@dataclass(frozen=True)
class Sum:
    """A sum of one window. How long it is kept follows from its window: no reader or writer can choose it."""

    name: str
    window: Window

    @property
    def key(self) -> str:
        """The name by which all processes know it."""
        return f"{self.name}/{self.window.seconds}/{self.window.number}"

    @property
    def keep_seconds(self) -> int:
        """How long a store keeps it after an addition: past the window's end by at least one window, since
        the processes' clocks may differ."""
        return 2 * self.window.seconds

    def is_over(self, moment: datetime) -> bool:
        """Whether it may be forgotten: its window ended at least one window ago."""
        return self.window.left(moment) <= -self.window.seconds
