"""Client limits: requests, tokens and dollars that one client may use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gifty_compute.clock import Clock
from gifty_compute.errors import OverLimit, Unavailable
from gifty_compute.logic.file import LogicFile
from gifty_compute.routing.bill import Bill
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate
from gifty_compute.routing.limits import Counters
from gifty_compute.routing.spending import Spending, until_midnight
from gifty_compute.windows import MINUTE, Sum, Window
from gifty_compute.wire.size import estimated_tokens

__all__ = ["ClientLimits"]


class ClientLimits:
    """What `clients.<name>` says, counted over all processes; an account of the tokens of each client.

    Requests of a minute are all those to `/v1`. Tokens and dollars are of work that a provider does at once,
    and of low-priority work that a provider is paid for.
    """

    def __init__(self, clock: Clock, counters: Counters, spending: Spending) -> None:
        self._clock, self._counters, self._spending = clock, counters, spending

    def admit_request(self, file: LogicFile, client: str) -> None:
        """Counts one request in the present minute. Raises OverLimit past the limit."""
        most = file.clients.of(client).requests_per_minute
        most = most if most is not None else file.limits.requests_per_minute
        now = self._clock.now()
        if most is not None and not self._counters.take(_sum("requests", client, now), 1, most):
            raise OverLimit(f"{client} may make {most} requests a minute", retry_after=_left(now))

    def admit(self, call: Call) -> Callable[[], None]:
        """Takes the call's estimated tokens until what it gives is called; then its bills alone count.

        Raises OverLimit; Unavailable while today's dollars are not known.
        """
        section = call.logic.file.clients.of(call.client)
        if section.usd_per_day is not None and not _is_free(call):
            self._admit_usd(call.client, section.usd_per_day)
        if section.tokens_per_minute is None:
            return _nothing
        return self._take_tokens(call, section.tokens_per_minute)

    def paid(self, candidate: Candidate, call: Call, bill: Bill) -> None:
        section = call.logic.file.clients.of(call.client)
        if section.tokens_per_minute is not None:
            used = bill.usage.input_tokens + bill.usage.output_tokens
            self._counters.add(_sum("tokens", call.client, bill.began), used)

    def _admit_usd(self, client: str, most: float) -> None:
        spent = self._spending.of_client(client)
        if spent is None:
            raise Unavailable(f"what {client} has spent today is not known before PostgreSQL answers")
        if spent.reckoned_usd >= most:
            message = f"{client} may spend {most:g} $ a day, and has"
            raise OverLimit(message, retry_after=until_midnight(self._clock))

    def _take_tokens(self, call: Call, most: int) -> Callable[[], None]:
        now, estimate = self._clock.now(), estimated_tokens(call.payload)
        tokens = _sum("tokens", call.client, now)
        # A request that is larger than the whole limit goes when nothing else did.
        if not self._counters.take(tokens, estimate, max(most, estimate)):
            raise OverLimit(f"{call.client} may use {most} tokens a minute", retry_after=_left(now))
        return lambda: self._counters.add(tokens, -estimate)


def _is_free(call: Call) -> bool:
    """Whether no provider that costs money could be asked."""
    offers = call.logic.offers(call.kind, call.model)
    return all(offer.section.adapter == "local" for offer in offers)


def _sum(what: str, client: str, moment: datetime) -> Sum:
    return Sum(f"client-{what}/{client}", Window.at(moment, MINUTE))


def _left(now: datetime) -> float:
    return Window.at(now, MINUTE).left(now)


def _nothing() -> None:
    """No limit, so nothing was taken."""
