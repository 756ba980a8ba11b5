"""Limits: requests and tokens per minute of each key, kept by us so that the provider need not refuse."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from gifty_compute.clock import Clock
from gifty_compute.routing.bill import Bill
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.windows import MINUTE, Sum, Window
from gifty_compute.wire.size import estimated_tokens

__all__ = ["Counters", "Limits"]


class Counters(Protocol):
    """Sums of a window that all processes add to. Never raises, never waits; what other processes added shows
    a moment later. A sum counts until its window is over, whether it was read or added to first."""

    def add(self, to: Sum, amount: float) -> None:
        """Adds to the sum; a negative amount corrects an estimate."""
        ...

    def take(self, of: Sum, amount: float, most: float) -> bool:
        """Adds the amount if the sum stays within `most`; False if it would not. One step for all threads."""
        ...

    def total(self, of: Sum) -> float:
        """The sum as far as it is known here."""
        ...


class Limits:
    """A guard, and an account, that counts in minutes of the wall clock, over all processes.

    A request counts when it begins, with its estimated tokens. Its bill corrects them, in the minute in which
    it began. A bill of an attempt that passed by the guards is counted as a whole.
    """

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock, self._counters = clock, counters

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        limits = candidate.offer.section.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return None
        now = self._clock.now()
        requests = self._counters.total(_sum("requests", candidate, now))
        tokens = self._counters.total(_sum("tokens", candidate, now))
        too_many = (limits.requests_per_minute or requests + 1) < requests + 1
        # A request that is larger than the whole limit goes when nothing else did: the provider decides.
        most = limits.tokens_per_minute
        too_much = most is not None and tokens > 0 and tokens + estimated_tokens(call.payload) > most
        if not (too_many or too_much):
            return None
        left = Window.at(now, MINUTE).left(now)
        if too_many:
            return Wait(left, f"its limit of {limits.requests_per_minute} requests a minute is reached")
        return Wait(left, f"its limit of {most} tokens a minute is reached")

    def enter(self, candidate: Candidate, call: Call) -> bool:
        limits, now = candidate.offer.section.limits, self._clock.now()
        requests = _sum("requests", candidate, now)
        most = limits.requests_per_minute
        if most is not None and not self._counters.take(requests, 1, most):
            return False
        if limits.tokens_per_minute is None:
            return True
        estimate = estimated_tokens(call.payload)
        # One that is over the whole limit by itself fits only where nothing else was sent.
        fits = max(limits.tokens_per_minute, estimate)
        taken = self._counters.take(_sum("tokens", candidate, now), estimate, fits)
        if not taken and most is not None:
            self._counters.add(requests, -1)
        return taken

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        """Nothing: what an attempt used is in its bill."""

    def paid(self, candidate: Candidate, call: Call, bill: Bill) -> None:
        limits = candidate.offer.section.limits
        if limits.tokens_per_minute is not None:
            used = bill.usage.input_tokens + bill.usage.output_tokens
            counted = estimated_tokens(call.payload) if bill.entered else 0
            self._counters.add(_sum("tokens", candidate, bill.began), used - counted)
        if limits.requests_per_minute is not None and not bill.entered:
            self._counters.add(_sum("requests", candidate, bill.began), 1)


def _sum(what: str, candidate: Candidate, moment: datetime) -> Sum:
    name = f"{what}/{candidate.name}/{candidate.site.key_label}"
    return Sum(name, Window.at(moment, MINUTE))
