"""Verdict: how a worker's tasks ended, in counts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """How tasks that were claimed ended, in counts: never in data."""

    done: int = 0
    failed: int = 0
    lost: int = 0
    """Finished or claimed by somebody else meanwhile, or cancelled."""
    released: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.done + other.done,
            self.failed + other.failed,
            self.lost + other.lost,
            self.released + other.released,
        )

    def __sub__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.done - other.done,
            self.failed - other.failed,
            self.lost - other.lost,
            self.released - other.released,
        )

    @property
    def claimed(self) -> int:
        return self.done + self.failed + self.lost + self.released

    def __str__(self) -> str:
        """
        >>> str(Verdict(done=20, lost=3))
        'done 20, taken elsewhere 3'
        """
        words = {
            "done": self.done,
            "failed": self.failed,
            "taken elsewhere": self.lost,
            "released": self.released,
        }
        return ", ".join(f"{word} {n}" for word, n in words.items() if n or word == "done")
