"""A circuit: whether one provider may be asked, since when not, and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.file import BreakerSection

__all__ = ["LOOK_SECONDS", "TRIAL_SECONDS", "Cause", "Circuit"]

TRIAL_SECONDS = 30.0
"""Seconds after which a trial without an outcome is given up."""
LOOK_SECONDS = 1.0
"""While another process makes the trial, this one looks again after this."""
# A provider that asks for longer is tried again after this all the same: one refused call costs little.
_LONGEST_SECONDS = 300.0


@dataclass(frozen=True)
class Cause:
    """Why a circuit is open: the last failure, and how many came in a row."""

    code: str
    failures: int = 1
    status: int | None = None
    reason: str | None = None
    """What operators may read of the provider's own words."""

    @property
    def told(self) -> str:
        """The part that callers may read."""
        return self.code if self.failures == 1 else f"{self.code} ({self.failures} failures)"

    def written(self) -> str:
        """As the other processes read it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, written: str) -> Self:
        """The same of what another process wrote; one of another version may write something else."""
        try:
            said = json.loads(written)
            return cls(str(said["code"]), int(said["failures"]), said["status"], said["reason"])
        except (ValueError, KeyError, TypeError):
            return cls("open in another process")


@dataclass
class Circuit:
    """One circuit's state; moments are of the monotonic clock."""

    failures: int = 0
    open_until: float = 0.0
    trial_until: float = 0.0
    failed_at: float = 0.0
    cause: Cause | None = None

    @property
    def closed(self) -> bool:
        return self.open_until == 0.0

    def wait(self, now: float) -> float:
        """Seconds until an attempt may begin: 0 where closed, or half-open with its trial untaken."""
        return max(0.0, self.open_until - now, self.trial_until - now)

    def begin_trial(self, now: float) -> None:
        """It is half-open, also if it was another process that opened it, and this is its trial."""
        self.open_until = self.open_until or now
        self.trial_until = now + TRIAL_SECONDS

    def succeed(self) -> None:
        self.failures, self.open_until, self.trial_until, self.cause = 0, 0.0, 0.0, None

    def fail(self, error: ProviderError, now: float, section: BreakerSection) -> float:
        """Counts a failure; the seconds for which the circuit is open now, 0 where it stays closed.

        A Retry-After of 0 names no time: the failure counts as one without it.
        """
        self.failures, self.failed_at = self.failures + 1, now
        self.cause = Cause(error.code, self.failures, error.status, error.reason)
        was_half_open, self.trial_until = not self.closed, 0.0
        seconds = 0.0
        if error.failure is Failure.CONFIG:
            seconds = section.config_seconds
        elif error.retry_after:
            seconds = min(error.retry_after, _LONGEST_SECONDS)
        elif was_half_open or self.failures >= section.failures:
            seconds = section.open_seconds
        if seconds > 0:
            self.open_until = max(self.open_until, now + seconds)
        return seconds
