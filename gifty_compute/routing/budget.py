"""Budgets: what a provider may cost in a day."""

from __future__ import annotations

from gifty_compute.clock import Clock
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.routing.spending import Spending, until_midnight

__all__ = ["Budgets"]

# While today's spending is not known.
_LOOK_SECONDS = 1.0


class Budgets:
    """A guard that leaves a provider alone for the rest of the day (UTC) once its budget is spent, and for as
    long as it is not known what was spent.

    What is under way when the budget ends is paid beyond it: one attempt for each request in flight, and what
    other processes start within about a second.
    """

    def __init__(self, clock: Clock, spending: Spending) -> None:
        self._clock, self._spending = clock, spending

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        budget = candidate.offer.section.budget_usd_per_day
        if budget is None:
            return None
        spent = self._spending.of_provider(candidate.name)
        if spent is None:
            return Wait(_LOOK_SECONDS, "its budget cannot be counted before PostgreSQL answers")
        if spent.reckoned_usd < budget:
            return None
        return Wait(until_midnight(self._clock), "its budget of today is spent")

    def enter(self, candidate: Candidate, call: Call) -> bool:
        return self.wait(candidate, call) is None

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        """Nothing: the accounts are told what an attempt is counted for."""

    def spent_usd(self, provider: str) -> float:
        """What today's attempts at this provider are counted for, as far as this process knows."""
        spent = self._spending.of_provider(provider)
        return 0.0 if spent is None else spent.usd

    def unpriced(self, provider: str) -> int:
        """How many of today's attempts at this provider have no known price."""
        spent = self._spending.of_provider(provider)
        return 0 if spent is None else spent.unpriced
