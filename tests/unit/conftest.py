"""A clock that the tests move by hand, and hypothesis without a stop-watch: a busy machine is no failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self._seconds = 1000.0

    def advance(self, seconds: float) -> None:
        self._seconds += seconds

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def monotonic(self) -> float:
        return self._seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
