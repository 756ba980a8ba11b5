"""Tools: what a worker is passed from outside."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from random import Random

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Clock, SystemClock

__all__ = ["Tools"]


@dataclass(frozen=True)
class Tools:
    """When to stop, what time it is, and how to wait for a source that does not answer."""

    stop: threading.Event
    rng: Random
    patience: Backoff = field(default_factory=lambda: Backoff(base=0.2, cap=10.0))
    """Between tries to report an outcome."""
    tries: int = 12
    clock: Clock = field(default_factory=SystemClock)
