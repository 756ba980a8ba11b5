"""What a pass is made of: steps, each bounded, and the report of what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

__all__ = ["ROWS_A_STEP", "Report", "Step"]

# A pass is bounded, so that a flood of expired leases does not hold up the announcements behind it.
ROWS_A_STEP = 1000


class Step(Protocol):
    """One thing that a pass does, on the connection that holds the lock."""

    def run(self, connection: Connection) -> Mapping[str, int]:
        """What was done, in counts by name. Raises StoreUnavailable, which ends the pass."""
        ...


@dataclass(frozen=True)
class Report:
    """What one pass did, in counts by name.

    >>> str(Report({"rescued": 2, "failed": 0}))
    'rescued 2'
    """

    counts: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def __bool__(self) -> bool:
        """Whether anything was done."""
        return any(self.counts.values())

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}" for name, count in self.counts.items() if count)
        return done or "nothing to do"
