"""Budgets: what a provider may cost in a day."""

from __future__ import annotations

import logging
from datetime import timedelta

from gifty_compute.clock import Clock
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.routing.limits import Counters

__all__ = ["Budgets"]

log = logging.getLogger(__name__)
_TWO_DAYS = 2 * 86_400


class Budgets:
    """A guard that leaves a provider alone for the rest of the day (UTC) once its budget is spent.

    Answers whose cost nobody knows are counted as such, never as free. What is on its way when the budget
    ends is paid beyond it: at most one answer for each request in flight.
    """

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock, self._counters = clock, counters

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        budget = candidate.offer.section.budget_usd_per_day
        if budget is None or self.spent_usd(candidate.name) < budget:
            return None
        now = self._clock.now()
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return Wait((midnight - now).total_seconds(), "its budget of today is spent")

    def enter(self, candidate: Candidate, call: Call) -> bool:
        return True

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        if outcome.reply is None or candidate.offer.section.budget_usd_per_day is None:
            return
        if outcome.cost_usd is not None:
            self._counters.add(self._name("usd", candidate.name), outcome.cost_usd, keep_seconds=_TWO_DAYS)
            return
        self._counters.add(self._name("unpriced", candidate.name), 1, keep_seconds=_TWO_DAYS)
        log.warning("the budget of %s misses an answer: its cost is not known", candidate.name)

    def spent_usd(self, provider: str) -> float:
        """What today's answers of this provider cost, as far as it is known; 0 without a budget."""
        return self._counters.total(self._name("usd", provider))

    def unpriced(self, provider: str) -> int:
        """How many of today's answers of this provider had no known cost."""
        return int(self._counters.total(self._name("unpriced", provider)))

    def _name(self, what: str, provider: str) -> str:
        return f"{what}/{provider}/{self._clock.now().date().isoformat()}"
