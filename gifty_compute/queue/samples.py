"""Samples of the queue: what waits and runs for each task type and model, and how many workers serve it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from gifty_compute.clock import Clock
from gifty_compute.queue.database import Database

__all__ = ["ENOUGH", "FRESH_SECONDS", "MOST_QUEUES", "QueueSample", "QueueSamples", "Sample"]

ENOUGH = 100_001
"""No count goes further: it means that many or more."""
MOST_QUEUES = 200
"""Pairs of task type and model in a sample. Callers may name any language model of a provider."""
FRESH_SECONDS = 30.0
"""An older sample says nothing of now. `maintain` makes one every 5 seconds, every 10 by beat alone."""
_REMEMBERED_SECONDS = 1.0


@dataclass(frozen=True)
class QueueSample:
    """One task type and model at the time of the sample. A row that has no model yet has the model ''."""

    task_type: str
    model: str
    ready: int
    delayed: int
    processing: int
    oldest_seconds: float
    """How long the oldest of the ready tasks has waited; 0 where there is none."""
    done_total: int
    failed_total: int
    workers: int
    """Workers that take such tasks: heard of within 90 seconds, or holding a lease that is good."""

    @property
    def name(self) -> str:
        """As the contract writes it: embedding/bge-m3."""
        return f"{self.task_type}/{self.model}"


@dataclass(frozen=True)
class Sample:
    """All queues as they were `age_seconds` ago; the age is infinite where no sample was ever made."""

    age_seconds: float
    queues: tuple[QueueSample, ...] = ()

    @property
    def is_fresh(self) -> bool:
        return self.age_seconds <= FRESH_SECONDS

    @property
    def is_partial(self) -> bool:
        """Whether there may be queues beyond those of the sample."""
        return len(self.queues) >= MOST_QUEUES

    def has_no_worker(self, task_type: str, model: str) -> bool:
        """Whether no worker takes such tasks, for certain: a queue that is served is in the sample."""
        if not self.is_fresh:
            return False
        found = [one.workers for one in self.queues if (one.task_type, one.model) == (task_type, model)]
        return not any(found) if found else not self.is_partial


class QueueSamples:
    """Reads the newest sample, at most once a second; may be used by all threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock
        self._began = clock.monotonic()
        self._guard = threading.Lock()
        self._read_at = float("-inf")
        self._sample = Sample(float("inf"))

    def newest(self) -> Sample:
        """The newest sample, as of a second ago; an older one while another thread reads it anew.

        Raises StoreUnavailable.
        """
        if self._seconds_since() >= _REMEMBERED_SECONDS and self._guard.acquire(blocking=False):
            try:
                return self.refresh()
            finally:
                self._guard.release()
        sample = self._sample
        return replace(sample, age_seconds=sample.age_seconds + self._seconds_since())

    def refresh(self) -> Sample:
        """The newest sample, read now. Raises StoreUnavailable."""
        rows = self._db.rows("newest_sample")
        age = rows[0].pop("age_seconds") if rows else None
        for row in rows[1:]:
            del row["age_seconds"]
        queues = tuple(QueueSample(**row) for row in rows if row["task_type"] is not None)
        self._sample = Sample(float("inf") if age is None else age, queues)
        self._read_at = self._clock.monotonic()
        return self._sample

    def _seconds_since(self) -> float:
        return self._clock.monotonic() - self._read_at

    def is_silent(self, sample: Sample) -> bool:
        """Whether `maintain` has made no sample for 30 seconds, in all of which this process could see it."""
        return not sample.is_fresh and self._clock.monotonic() - self._began > FRESH_SECONDS
