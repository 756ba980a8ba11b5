"""Metrics of the passes of maintain, in Prometheus's terms."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gifty_compute.maintain.step import Report

__all__ = ["MaintainMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class MaintainMetrics:
    """Of the passes that this process made: one process works at a time, so the newest of all counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "gifty_maintain_seconds", "How long a pass took", buckets=_BUCKETS, registry=registry
        )
        self._done = Counter("gifty_maintained", "What passes did", ("what",), registry=registry)
        self._last = Gauge(
            "gifty_maintain_last_pass_timestamp_seconds",
            "When a pass was over last",
            registry=registry,
            multiprocess_mode="max",
        )

    def passed(self, report: Report, seconds: float, now: datetime) -> None:
        self._seconds.observe(seconds)
        self._last.set(now.timestamp())
        for what, count in report.counts.items():
            self._done.labels(what).inc(count)
