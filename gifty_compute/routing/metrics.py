"""Metrics of the attempts at providers, in Prometheus's terms."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["AttemptMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class AttemptMetrics:
    """An observer that counts. Labels are names and codes, never texts or keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._children: dict[tuple[Any, tuple[str, ...]], Any] = {}
        names = ("provider", "kind")
        self._attempts = Counter(
            "gifty_attempts", "Attempts at providers", (*names, "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "gifty_attempt_seconds", "How long attempts took", names, buckets=_BUCKETS, registry=registry
        )
        self._tokens = Counter("gifty_tokens", "Tokens as counted by providers", names, registry=registry)
        self._cost = Counter(
            "gifty_cost_usd", "Cost of answers, as far as it is known", names, registry=registry
        )
        self._unpriced = Counter(
            "gifty_unpriced", "Answers whose cost nobody knows", names, registry=registry
        )

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        names = candidate.name, call.kind
        said = "ok" if outcome.error is None else outcome.error.code
        self._of(self._attempts, *names, said).inc()
        self._of(self._seconds, *names).observe(outcome.seconds)
        if outcome.reply is None:
            return
        usage = outcome.reply.usage
        if usage is not None:
            self._of(self._tokens, *names).inc(usage.input_tokens + usage.output_tokens)
        if outcome.cost_usd is None:
            self._of(self._unpriced, *names).inc()
        else:
            self._of(self._cost, *names).inc(outcome.cost_usd)

    def _of(self, metric: Any, *labels: str) -> Any:
        """The metric's child; `labels` of the library costs more than all the rest of an attempt's count."""
        key = metric, labels
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child
