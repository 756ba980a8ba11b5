"""Limits: requests and tokens per minute of each key, kept by us so that the provider need not refuse."""

from __future__ import annotations

from typing import Protocol

from gifty_compute.clock import Clock
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.wire.size import estimated_tokens

__all__ = ["Counters", "Limits"]

_WINDOW_SECONDS = 60


class Counters(Protocol):
    """Sums that all processes add to. Never raises, never waits; what others added shows a moment later."""

    def add(self, name: str, amount: float, *, keep_seconds: float) -> None:
        """Adds to the sum of this name, which is forgotten after so many seconds."""
        ...

    def total(self, name: str) -> float:
        """The sum as far as it is known here."""
        ...


class Limits:
    """A guard that counts in windows of one minute of the wall clock, over all processes."""

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock, self._counters = clock, counters

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        limits = candidate.offer.section.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return None
        window, left = self._window()
        requests = self._counters.total(_name("requests", candidate, window))
        tokens = self._counters.total(_name("tokens", candidate, window))
        too_many = (limits.requests_per_minute or requests + 1) < requests + 1
        # A request that is larger than the whole limit goes when nothing else did: the provider decides.
        most = limits.tokens_per_minute
        too_much = most is not None and tokens > 0 and tokens + estimated_tokens(call.payload) > most
        if too_many:
            return Wait(left, f"its limit of {limits.requests_per_minute} requests a minute is reached")
        return Wait(left, f"its limit of {most} tokens a minute is reached") if too_much else None

    def enter(self, candidate: Candidate, call: Call) -> bool:
        limits = candidate.offer.section.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return True
        window, _ = self._window()
        if limits.requests_per_minute is not None:
            self._add("requests", candidate, window, 1)
        if limits.tokens_per_minute is not None:
            self._add("tokens", candidate, window, estimated_tokens(call.payload))
        return True

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        usage = outcome.reply.usage if outcome.reply else None
        if candidate.offer.section.limits.tokens_per_minute is not None and usage is not None:
            window, _ = self._window()
            used = usage.input_tokens + usage.output_tokens
            self._add("tokens", candidate, window, used - estimated_tokens(call.payload))

    def _add(self, what: str, candidate: Candidate, window: int, amount: float) -> None:
        self._counters.add(_name(what, candidate, window), amount, keep_seconds=2 * _WINDOW_SECONDS)

    def _window(self) -> tuple[int, float]:
        """The number of the present minute, and the seconds until the next."""
        now = self._clock.now().timestamp()
        return int(now // _WINDOW_SECONDS), _WINDOW_SECONDS - now % _WINDOW_SECONDS


def _name(what: str, candidate: Candidate, window: int) -> str:
    return f"{what}/{candidate.name}/{candidate.site.key_label}/{window}"
