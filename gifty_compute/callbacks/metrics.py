"""Metrics of callbacks, in Prometheus's terms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gifty_compute.queue.outbox import Counts

__all__ = ["CallbackMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class CallbackMetrics:
    """Of the tries of this process, and of the outbox as it looked last. Labels never name a receiver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tries = Counter(
            "gifty_callback_tries",
            "Tries to tell a receiver, by what came of it",
            ("outcome",),
            registry=registry,
        )
        self._seconds = Histogram(
            "gifty_callback_seconds", "How long a try took", buckets=_BUCKETS, registry=registry
        )
        # Of several processes the one that looked last is right.
        self._due = Gauge(
            "gifty_callbacks_due",
            "Callbacks that wait, up to 10,000",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._dead = Gauge(
            "gifty_callbacks_dead",
            "Callbacks that were given up, up to 10,000",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def tried(self, outcome: str, seconds: float) -> None:
        self._tries.labels(outcome).inc()
        self._seconds.observe(seconds)

    def looked(self, counts: Counts) -> None:
        self._due.set(counts.due)
        self._dead.set(counts.dead)
