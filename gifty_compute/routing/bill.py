"""Bills: what one attempt is counted for, however it ended; and the accounts that are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gifty_compute.providers.base import Ask, Reply, Usage
from gifty_compute.providers.meter import Exchanged
from gifty_compute.routing.call import Call
from gifty_compute.routing.cost import cost_of_exchange, cost_usd
from gifty_compute.routing.guard import Candidate
from gifty_compute.wire.size import estimated_tokens

__all__ = ["Account", "Bill", "Tab"]


@dataclass(frozen=True)
class Bill:
    """What an attempt that may have been paid is counted for."""

    began: datetime
    """When the attempt began: it counts in that day and that minute, however long it took."""
    usage: Usage
    """As the provider counted, else as estimated."""
    usd: float
    """All that has a price."""
    estimated: bool = False
    """Whether a part of it is our estimate at the stated price, rather than what the provider counted."""
    unpriced: int = 0
    """Requests without a price, which are not in `usd`."""
    entered: bool = True
    """Whether the guards let the attempt in; canaries pass by them."""


class Account(Protocol):
    """Told of every attempt that may have been paid, once; called by many threads at once."""

    def paid(self, candidate: Candidate, call: Call, bill: Bill) -> None: ...


class Tab:
    """Open while an attempt is under way. Closing it tells the accounts what the attempt is counted for.

    It is closed in a `finally`: the answer may be thrown away, the stream abandoned, the connection lost.
    """

    def __init__(
        self, accounts: Sequence[Account], candidate: Candidate, call: Call, ask: Ask, *, entered: bool
    ) -> None:
        self._accounts, self._candidate, self._call, self._ask = accounts, candidate, call, ask
        self._entered, self._clock = entered, ask.deadline.clock
        self._began, self._since = self._clock.now(), self._clock.monotonic()
        self._open = True
        self.reply: Reply | None = None
        """What the provider answered, whether or not the answer is of use."""

    def close(self) -> Bill | None:
        """The bill; None where nothing was sent or all was refused, and for a tab that was closed before."""
        if not self._open:
            return None
        self._open = False
        bill = self._bill()
        if bill is not None:
            for account in self._accounts:
                account.paid(self._candidate, self._call, bill)
        return bill

    def _bill(self) -> Bill | None:
        offer, reply, exchanges = self._candidate.offer, self.reply, self._ask.meter.exchanges
        if reply is not None and not exchanges:
            exchanges = self._unmetered(reply)
        if not exchanges:
            return None
        usage = _sum_of([one.tokens for one in exchanges])
        known = None if reply is None else cost_usd(offer, reply)
        if reply is not None and known is not None:
            return Bill(self._began, reply.usage or usage, known, entered=self._entered)
        elapsed = (self._clock.monotonic() - self._since) / len(exchanges)
        costs = [cost_of_exchange(offer, one, elapsed) for one in exchanges]
        priced = [cost for cost in costs if cost is not None]
        return Bill(
            self._began,
            usage,
            sum(cost.usd for cost in priced),
            estimated=any(cost.estimated for cost in priced),
            unpriced=len(costs) - len(priced),
            entered=self._entered,
        )

    def _unmetered(self, reply: Reply) -> tuple[Exchanged, ...]:
        """An answer of a provider that tells the meter nothing."""
        said = estimated_tokens(reply.result) if self._ask.offer.ask_as == "llm" else 0
        sent = estimated_tokens(self._ask.payload)
        return (Exchanged(sent, said, reply.usage, reply.cost_usd, reply.billed_seconds),)


def _sum_of(usages: Sequence[Usage]) -> Usage:
    return Usage(sum(one.input_tokens for one in usages), sum(one.output_tokens for one in usages))
