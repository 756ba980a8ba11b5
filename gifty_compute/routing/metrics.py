"""Metrics of the attempts at providers, in Prometheus's terms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["AttemptMetrics"]

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class AttemptMetrics:
    """A guard that lets everybody pass and counts. Labels are names and codes, never texts or keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
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

    def wait(self, candidate: Candidate, call: Call) -> float | None:
        return None

    def enter(self, candidate: Candidate, call: Call) -> bool:
        return True

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        names = candidate.name, call.kind
        said = "ok" if outcome.error is None else outcome.error.code
        self._attempts.labels(*names, said).inc()
        self._seconds.labels(*names).observe(outcome.seconds)
        if outcome.reply is None:
            return
        if outcome.reply.usage is not None:
            self._tokens.labels(*names).inc(
                outcome.reply.usage.input_tokens + outcome.reply.usage.output_tokens
            )
        if outcome.cost_usd is None:
            self._unpriced.labels(*names).inc()
        else:
            self._cost.labels(*names).inc(outcome.cost_usd)
