"""Metrics of the attempts at providers, and of what they cost, in Prometheus's terms."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from gifty_compute.routing.bill import Bill
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["AttemptMetrics", "CostMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
_NAMES = ("provider", "kind")


class _Children:
    """A metric's labelled children; `labels` of the library costs more than all the rest of a count."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, tuple[str, ...]], Any] = {}

    def of(self, metric: Any, *labels: str) -> Any:
        key = metric, labels
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = metric.labels(*labels)
        return child


class AttemptMetrics:
    """An observer that counts. Labels are names and codes, never texts or keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._children = _Children()
        self._attempts = Counter(
            "gifty_attempts", "Attempts at providers", (*_NAMES, "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "gifty_attempt_seconds", "How long attempts took", _NAMES, buckets=_BUCKETS, registry=registry
        )

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        names = candidate.name, call.kind
        said = "ok" if outcome.error is None else outcome.error.code
        self._children.of(self._attempts, *names, said).inc()
        self._children.of(self._seconds, *names).observe(outcome.seconds)


class CostMetrics:
    """An account that counts all that is paid, thrown-away answers and canaries included."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._children = _Children()
        self._tokens = Counter(
            "gifty_tokens", "Tokens as counted by providers, else estimated", _NAMES, registry=registry
        )
        self._cost = Counter(
            "gifty_cost_usd", "Cost of attempts, as far as they have a price", _NAMES, registry=registry
        )
        self._estimated = Counter(
            "gifty_cost_estimated_usd", "The part of the cost that is our estimate", _NAMES, registry=registry
        )
        self._unpriced = Counter(
            "gifty_unpriced", "Attempts whose cost is unknown", _NAMES, registry=registry
        )

    def paid(self, candidate: Candidate, call: Call, bill: Bill) -> None:
        names = candidate.name, call.kind
        self._children.of(self._tokens, *names).inc(bill.usage.input_tokens + bill.usage.output_tokens)
        self._children.of(self._cost, *names).inc(bill.usd)
        if bill.estimated:
            self._children.of(self._estimated, *names).inc(bill.usd)
        if bill.unpriced:
            self._children.of(self._unpriced, *names).inc()
