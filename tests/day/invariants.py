"""What must be true of the day, seen from outside: by the providers' books and the callers' answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.day.callers import Called
from tests.day.file import BUDGETS_USD, CLIENT_REQUESTS_PER_MINUTE, REQUESTS_PER_MINUTE
from tests.day.vendors import Charge, Vendors

__all__ = ["Blind", "faults"]

_SYNC_SECONDS = 4.0
"""After this every process knows what another one has spent or counted; longer while a store is away."""
_DAY_SECONDS, _MINUTE_SECONDS = 86_400, 60
# What a caller may be answered: its own limit, a guard, a provider's failure. What it may ask for besides:
_STATUSES = {429, 502, 503, 504}
_ASKED_FOR = {"foreign": {404}, "callback": {422}, "unpriced": {422}}


@dataclass(frozen=True)
class Blind:
    """A time in which processes could not tell each other, or one of them did not answer."""

    began: float
    ended: float
    what: str

    def covers(self, moment: float) -> bool:
        return self.began <= moment <= self.ended + 2 * _SYNC_SECONDS


def faults(
    vendors: Vendors, calls: Sequence[Called], blind: Sequence[Blind], logs: str, length: float
) -> dict[str, list[str]]:
    """Every breach, in words, by the promise that it breaks; an empty mapping is what is wanted."""
    found = {
        "money is spent within the budget": _overspent(vendors, blind, length),
        "a provider's limit is kept": _over_requests(vendors, blind),
        "a client's limit is kept": _over_client_requests(calls, blind),
        "answers are right, and guards hold": _wrong(calls, blind),
        "failures are explained": _unexplained(calls, logs),
    }
    return {promise: listed for promise, breaches in found.items() if (listed := list(breaches))}


def _overspent(vendors: Vendors, blind: Sequence[Blind], length: float) -> Iterable[str]:
    """A request that began although what was charged before it, and was known, had used up the budget."""
    for provider, budget in BUDGETS_USD.items():
        charges = vendors.charges(provider)
        for one in charges:
            known = _known(charges, one, _DAY_SECONDS, blind)
            spent = sum(other.usd for other in known)
            if spent >= budget * length:
                yield f"{provider} was asked at {one.began:.1f}, {spent:.3f} $ of {budget * length:.3f} spent"


def _over_requests(vendors: Vendors, blind: Sequence[Blind]) -> Iterable[str]:
    for provider, most in REQUESTS_PER_MINUTE.items():
        charges = vendors.charges(provider)
        for one in charges:
            # A request counts when it is sent.
            known = [other for other in charges if other.began < one.began - _slack(one.began, blind)]
            same = [other for other in known if _same(other.began, one.began, _MINUTE_SECONDS)]
            if len(same) >= most:
                yield f"{provider} was asked at {one.began:.1f} after {len(same)} requests of {most} a minute"


def _over_client_requests(calls: Sequence[Called], blind: Sequence[Blind]) -> Iterable[str]:
    admitted = [call for call in calls if call.status is not None and not _is_rate_limit(call)]
    of_minute: dict[tuple[str, float], list[float]] = {}
    for call in admitted:
        of_minute.setdefault((call.client, call.began // _MINUTE_SECONDS), []).append(call.ended)
    for call in admitted:
        before = call.began - _slack(call.began, blind)
        # The minute in which the service counted it is not known for sure: at the latest the one of its end.
        ends = of_minute.get((call.client, call.ended // _MINUTE_SECONDS), [])
        earlier = sum(ended < before for ended in ends)
        if earlier >= CLIENT_REQUESTS_PER_MINUTE:
            yield f"{call.client} was let in at {call.began:.1f} after {earlier} requests of that minute"


def _wrong(calls: Sequence[Called], blind: Sequence[Blind]) -> Iterable[str]:
    for call in calls:
        if call.fault is not None and not _is_excused(call, blind):
            yield f"{call.client} {call.what} at {call.began:.1f}: {call.fault}"
        elif call.what in _ASKED_FOR and call.status is not None and call.status < 300:
            yield f"{call.client} {call.what} at {call.began:.1f}: {call.status}, which must be refused"


def _unexplained(calls: Sequence[Called], logs: str) -> Iterable[str]:
    logged = set(re.findall(r'"request_id": "([^"]+)"', logs))
    for call in calls:
        if call.status is None or (call.status < 300 and call.error is None):
            continue
        error = call.error or {}
        name = f"{call.client} {call.what} at {call.began:.1f}: {call.status} {error}"
        if not all(error.get(key) for key in ("type", "code", "message", "request_id")):
            yield f"{name} does not say what happened"
            continue
        if call.status >= 300 and call.status not in _ASKED_FOR.get(call.what, set()) | _STATUSES:
            yield f"{name} is not among the answers to expect"
        if call.status in (429, 503) and int(call.headers.get("Retry-After", "0")) < 1:
            yield f"{name} does not say when to come again"
        if error["request_id"] not in logged:
            yield f"{name} is in no log"


def _known(charges: Sequence[Charge], one: Charge, window: int, blind: Sequence[Blind]) -> Iterable[Charge]:
    before = one.began - _slack(one.began, blind)
    for other in charges:
        if other.ended is not None and other.ended < before and _same(other.began, one.began, window):
            yield other


def _same(first: float, second: float, window: int) -> bool:
    return first // window == second // window


def _slack(moment: float, blind: Sequence[Blind]) -> float:
    """How long before this moment something must have been over to be known by all processes."""
    return _SYNC_SECONDS + sum(moment - one.began for one in blind if one.covers(moment))


def _is_rate_limit(call: Called) -> bool:
    """Whether the client's own limit has refused it, and not a provider's."""
    return call.status == 429 and (call.error or {}).get("code") == "over_limit"


def _is_excused(call: Called, blind: Sequence[Blind]) -> bool:
    """A connection that failed while the facade was being restarted."""
    at = (one for one in blind if one.what == call.facade)
    return call.status is None and any(one.covers(call.began) or one.covers(call.ended) for one in at)
