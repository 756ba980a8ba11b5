"""The router: one call in, one checked answer out, whatever a single provider does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.errors import InvalidRequest, InvalidResult, ProviderError
from gifty_compute.logic.file import AdapterName
from gifty_compute.providers import by_llm
from gifty_compute.providers.access import Access
from gifty_compute.providers.base import QUIET, Ask, Delta, Provider, Reply, StreamingProvider
from gifty_compute.providers.failures import bad_answer
from gifty_compute.routing.beginning import Begun, begin, silence_of
from gifty_compute.routing.bill import Account, Bill, Tab
from gifty_compute.routing.call import Answer, Call, Next, Stage
from gifty_compute.routing.cost import cost_usd, lacks_price, why_no_price
from gifty_compute.routing.guard import Candidate, Guard, Observer, Outcome
from gifty_compute.routing.order import Ordering
from gifty_compute.routing.walk import Walk, log_failure
from gifty_compute.wire.kinds import KINDS

__all__ = ["Answer", "Call", "ChatStream", "Router"]

# Of a version of the logic: kinds and models that callers name. Beyond it all are found anew.
_MOST_ROUTES = 1000


@dataclass(frozen=True)
class ChatStream:
    """An answer that is still arriving, after its first piece is there."""

    provider: str
    model: str
    attempts: int
    deltas: Iterator[Delta]
    """Closing it ends the exchange with the provider. Raises ProviderError when the provider breaks off."""


class Router:
    """Knows the providers by the name of their adapter; the logic of each call says who is asked.

    A call passes the stages from first to last, then walks from provider to provider; the guards say who may
    be asked, and learn from how it went.
    """

    def __init__(
        self,
        providers: Mapping[AdapterName, Provider],
        access: Access,
        *,
        ordering: Ordering,
        rng: Random,
        stages: Sequence[Stage] = (),
        guards: Sequence[Guard] = (),
        observers: Sequence[Observer] = (),
        accounts: Sequence[Account] = (),
    ) -> None:
        """`observers` learn beside the guards, and decide nothing; `accounts` are told of what is paid, also
        of attempts that pass by the guards."""
        self._providers, self._access = providers, access
        self._ordering, self._rng = ordering, rng
        self._guards, self._observers, self._accounts = guards, (*guards, *observers), accounts
        self._found: dict[tuple[str, str, str, str], tuple[Candidate, ...]] = {}
        self._way: Next = self._ask
        for stage in reversed(stages):
            self._way = partial(_through, stage, self._way)

    def run(self, call: Call) -> Answer:
        """The first valid answer of the route for this call.

        Raises InvalidRequest (not_served: no provider of the route can be asked for it; rejected_by_provider
        or refused: not even two of them take the request), DeadlineExceeded when time is over, Unavailable
        when all must be left alone for a while, and NoRoute naming each provider's error when all failed.
        """
        return self._way(call)

    def stream(self, call: Call) -> ChatStream:
        """The same for a language model's answer, piece by piece: another provider is asked only before the
        first piece. The call's deadline is that of the first sign of life; then silence alone ends it."""
        call = replace(call, is_stream=True)
        candidates = [
            candidate
            for candidate in self._candidates(call)
            if isinstance(self._providers[candidate.offer.section.adapter], StreamingProvider)
        ]
        begin = partial(self._begin, call)
        walk = Walk(call, candidates, self._guards, self._observers, begin, self._rng)
        found = walk.run()
        begun, tab = found.value
        offer = found.candidate.offer
        deltas = self._watched(call, found.candidate, begun, tab)
        # A generator that never began has nothing to close: the exchange would stay open.
        next(deltas)
        return ChatStream(found.candidate.name, offer.model_name, found.attempts, deltas)

    def candidates(self, call: Call) -> list[Candidate]:
        """Everybody who could be asked, in order, whether or not a guard would let them."""
        found = self._of_route(call)
        if call.never:
            found = tuple(candidate for candidate in found if candidate.name not in call.never)
        return self._ordering.sort(call, found) if len(found) > 1 else list(found)

    def _of_route(self, call: Call) -> tuple[Candidate, ...]:
        """The candidates of a version of logic and keys; the same for every call of its kind and model."""
        key = call.logic.version, self._access.version, call.kind, call.model.name
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_ROUTES:
                self._found.clear()
            offers = call.logic.offers(call.kind, call.model)
            found = tuple(Candidate(offer, site) for offer in offers for site in self._access.sites(offer))
            if self._access.version == key[1]:  # else the keys have changed meanwhile
                self._found[key] = found
        return found

    def attempt(self, call: Call, candidate: Candidate, deadline: Deadline) -> tuple[Answer, Reply]:
        """One attempt past all guards, checked; the accounts are told what it is counted for.

        Raises ProviderError; InvalidRequest for what the provider never takes.
        """
        return self._attempt(call, [], candidate, deadline, entered=False)

    def _attempt(
        self, call: Call, bills: list[Bill], candidate: Candidate, deadline: Deadline, *, entered: bool = True
    ) -> tuple[Answer, Reply]:
        """The same; its bill, if there is one, is added to `bills`."""
        ask = self._ask_of(call, candidate, deadline)
        provider = self._providers[candidate.offer.section.adapter]
        tab = Tab(self._accounts, candidate, call, ask, entered=entered)
        try:
            if candidate.offer.ask_as == call.kind:
                reply = provider.run(ask)
            else:
                reply = by_llm.run(provider, call.kind, ask)
            tab.reply = reply
            result = _checked(call, candidate, reply)
        finally:
            bill = tab.close()
            if bill is not None:
                bills.append(bill)
        return Answer(result, candidate.name, 1, reply.usage, cost_usd(candidate.offer, reply)), reply

    def _ask(self, call: Call) -> Answer:
        bills: list[Bill] = []
        attempt = partial(self._attempt, call, bills)
        walk = Walk(call, self._candidates(call), self._guards, self._observers, attempt, self._rng)
        found = walk.run()
        if found.attempts == 1:
            return found.value
        return replace(found.value, attempts=found.attempts, cost_usd=_usd_of(bills, found.value))

    def _candidates(self, call: Call) -> list[Candidate]:
        found = self.candidates(call)
        if not found:
            route = [offer.provider for offer in call.logic.offers(call.kind, call.model)]
            raise InvalidRequest(_why_nobody(call, route), param="model", code="not_served")
        countable = [candidate for candidate in found if not lacks_price(call, candidate.offer)]
        if not countable:
            raise InvalidRequest(why_no_price(call, found[0].offer), param="model", code="not_served")
        return countable

    def _ask_of(self, call: Call, candidate: Candidate, deadline: Deadline) -> Ask:
        payload = call.payload
        if call.kind == "llm" and "max_tokens" not in payload:
            payload = {**payload, "max_tokens": call.logic.file.llm.max_tokens}
        space = call.logic.space(call.space) if call.space else None
        return Ask(candidate.offer, candidate.site, payload, deadline, space, call.request_id)

    def _begin(self, call: Call, candidate: Candidate, deadline: Deadline) -> tuple[tuple[Begun, Tab], None]:
        """The first sign of an answer, within the attempt's share, and the rest, as long as it flows."""
        silence = silence_of(call, deadline)
        provider = self._providers[candidate.offer.section.adapter]
        assert isinstance(provider, StreamingProvider)
        ask = self._ask_of(call, candidate, silence)
        tab = Tab(self._accounts, candidate, call, ask, entered=True)
        try:
            return (begin(provider.stream(ask), silence), tab), None
        except BaseException:
            tab.close()
            raise

    def _watched(self, call: Call, candidate: Candidate, begun: Begun, tab: Tab) -> Iterator[Delta]:
        """QUIET, then all pieces; the guards learn at the end how it went."""
        clock, first, rest = call.deadline.clock, begun.first, begun.rest
        began, usage, said_usd = clock.monotonic(), first.usage, first.cost_usd
        error: ProviderError | None = None
        try:
            yield QUIET
            yield first
            for delta in rest:
                if delta.is_sign:
                    begun.silence.progress()
                usage = delta.usage or usage
                said_usd = delta.cost_usd if delta.cost_usd is not None else said_usd
                yield delta
        except ProviderError as broken:
            error = begun.why(broken)
            log_failure(candidate, call, error)
            raise error from broken
        finally:
            close = getattr(rest, "close", None)
            if close is not None:
                close()
            seconds = clock.monotonic() - began
            # Also of a stream that the client left, or that broke off: what came of it is paid.
            tab.reply = Reply({}, usage, said_usd)
            tab.close()
            outcome = Outcome(seconds, None if error else tab.reply, error, first_seconds=begun.first_seconds)
            for observer in self._observers:
                observer.left(candidate, call, outcome)


def _checked(call: Call, candidate: Candidate, reply: Reply) -> dict[str, Any]:
    """The result as the kind's check leaves it. Raises ProviderError (bad_answer)."""
    expected = call.logic.expected(call.kind, call.model.name, done_by=candidate.offer.model_name)
    try:
        return KINDS[call.kind].check(call.payload, dict(reply.result), expected)
    except InvalidResult as error:
        raise bad_answer(error.message) from error


def _usd_of(bills: Sequence[Bill], answer: Answer) -> float | None:
    """What all attempts cost, those that failed included; None where the cost of one is not known."""
    if answer.cost_usd is None or any(bill.unpriced for bill in bills):
        return None
    return sum(bill.usd for bill in bills)


def _why_nobody(call: Call, route: Sequence[str]) -> str:
    work = f"{call.kind} with {call.model.name!r}"
    if not route:
        return f"no provider serves {work}"
    named = ", ".join(route)
    if call.never.issuperset(route):
        why = "may not be asked for this call: see clients.<name>.providers of logic.yaml, and X-Gifty-Hop"
        return f"{work} is routed to {named} alone, which {why}"
    return f"{work} is routed to {named}, but here is no key for it"


def _through(stage: Stage, then: Next, call: Call) -> Answer:
    return stage.run(call, then)
