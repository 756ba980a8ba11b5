"""The plan of a batch that must be done by a time: what workers will do, what has to be paid for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor
from typing import Any

__all__ = ["Plan", "Standing", "make_plan"]

# Workers are measured before anybody is paid: for a tenth of the time that there is, at most a minute.
_MEASURED_SHARE, _MEASURED_SECONDS = 0.1, 60.0
# Of the time that is left; the rest is for what goes wrong at the end.
_USABLE_SHARE = 0.9


@dataclass(frozen=True)
class Standing:
    """A batch's tasks of one kind and model at a moment. Money is in US dollars."""

    now: datetime
    created_at: datetime
    finish_by: datetime
    left: int
    """Tasks that have not ended."""
    in_paid_hands: int
    """Of these, how many a provider is doing now."""
    rate: float
    """Tasks that workers end in a second, as measured of late."""
    cost_usd: float
    """Spent, and set aside for what is under way or of unknown cost."""
    max_cost_usd: float


@dataclass(frozen=True)
class Plan:
    """How the rest will be done; `release` is how many tasks a provider shall get now."""

    rate: float
    eta: datetime | None
    workers: int
    paid: int
    release: int
    provider: str | None
    cost_usd: float
    expected_cost_usd: float
    why: str

    def shown(self) -> dict[str, Any]:
        """As GET /v1/batches/{id} shows it."""
        return {
            "rate": round(self.rate, 3),
            "eta": self.eta.isoformat() if self.eta else None,
            "workers": self.workers,
            "paid": self.paid,
            "provider": self.provider,
            "cost_usd": round(self.cost_usd, 6),
            "expected_cost_usd": round(self.expected_cost_usd, 6),
            "why": self.why,
        }


def make_plan(standing: Standing, provider: str | None, usd_a_task: float | None, why_not: str) -> Plan:
    """Free workers first; what their measured rate leaves undone is paid for, as far as the money goes.

    `usd_a_task` is the expected cost of one task at the cheapest provider that may be paid; None, with the
    reason, where there is none.
    """
    seconds = (standing.finish_by - standing.now).total_seconds()
    by_workers = min(standing.left, floor(max(seconds, 0.0) * _USABLE_SHARE * standing.rate))
    missing = standing.left - by_workers
    eta = standing.now + timedelta(seconds=standing.left / standing.rate) if standing.rate else None
    if not missing:
        return _plan(standing, eta, by_workers, 0, 0, None, 0.0, "the workers will make it")
    if provider is None or usd_a_task is None:
        return _plan(standing, eta, standing.left, 0, 0, None, 0.0, why_not)
    if (standing.now - standing.created_at).total_seconds() < _patience(standing):
        return _plan(standing, eta, standing.left, 0, 0, provider, 0.0, "the workers are being measured")
    money = max(0.0, standing.max_cost_usd - standing.cost_usd)
    affordable = floor(money / usd_a_task) if usd_a_task else missing
    paid = min(missing, affordable + standing.in_paid_hands)
    release = max(0, paid - standing.in_paid_hands)
    why = "the workers alone would be late" if paid == missing else "max_cost allows no more"
    left = standing.left - paid
    eta = _eta_with_help(standing, left, eta)
    return _plan(standing, eta, left, paid, release, provider, release * usd_a_task, why)


def _patience(standing: Standing) -> float:
    whole = (standing.finish_by - standing.created_at).total_seconds()
    return min(_MEASURED_SECONDS, max(0.0, whole) * _MEASURED_SHARE)


def _eta_with_help(standing: Standing, left: int, alone: datetime | None) -> datetime | None:
    if not left:
        return min(standing.finish_by, alone) if alone else standing.finish_by
    return standing.now + timedelta(seconds=ceil(left / standing.rate)) if standing.rate else None


def _plan(
    standing: Standing,
    eta: datetime | None,
    workers: int,
    paid: int,
    release: int,
    provider: str | None,
    more_usd: float,
    why: str,
) -> Plan:
    return Plan(
        rate=standing.rate,
        eta=eta,
        workers=workers,
        paid=paid,
        release=release,
        provider=provider,
        cost_usd=standing.cost_usd,
        expected_cost_usd=standing.cost_usd + more_usd,
        why=why,
    )
