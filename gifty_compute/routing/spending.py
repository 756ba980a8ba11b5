"""Spending: what each day's attempts at providers cost, by provider, model and client, over all processes."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from gifty_compute.clock import Clock
from gifty_compute.routing.bill import Bill
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate
from gifty_compute.wire.spending import Amount, Line, Written

__all__ = ["Spending", "SpendingStore", "until_midnight"]

log = logging.getLogger(__name__)


class SpendingStore(Protocol):
    """Keeps the spending of all processes. Raises StoreUnavailable."""

    def add(self, writer: str, number: int, lines: Written) -> None:
        """Adds the amounts. The same writer's same number is added once, however often it comes."""
        ...

    def since(self, day: date) -> Written:
        """All lines of that day and later ones."""
        ...


class Spending:
    """An account that adds in memory; a bookkeeper writes what was added, and reads what others added.

    Totals are of today, UTC. An attempt counts in the day in which it began. Nothing that was added is
    forgotten until it is written.
    """

    def __init__(self, clock: Clock, *, is_shared: bool) -> None:
        """`is_shared`: other processes may have spent, so nothing is known until `learn` was called once."""
        self._clock, self._is_known = clock, not is_shared
        self._unwritten: dict[Line, Amount] = {}
        self._totals: dict[tuple[date, str, str], Amount] = {}
        self._lock = threading.Lock()

    def paid(self, candidate: Candidate, call: Call, bill: Bill) -> None:
        if candidate.offer.section.adapter == "local":
            return
        line = Line(_day(bill.began), candidate.name, candidate.offer.model_id, call.client)
        estimate = bill.usd if bill.estimated else 0.0
        amount = Amount(bill.usd, estimate, 1, 1 if bill.unpriced else 0)
        if bill.unpriced and candidate.offer.section.budget_usd_per_day is not None:
            missing = f"providers.{candidate.name}.price"
            log.warning("an attempt at %s did not say its cost, and %s is not set", candidate.name, missing)
        with self._lock:
            self._unwritten[line] = self._unwritten.get(line, Amount()) + amount
            self._count(self._totals, line, amount)

    def of_provider(self, name: str) -> Amount | None:
        """What this provider was paid today; None while what others have spent is not known."""
        return self._today("provider", name)

    def of_client(self, name: str) -> Amount | None:
        """What this client's work cost today; None while what others have spent is not known."""
        return self._today("client", name)

    def unwritten(self) -> Written:
        """What was added and is not written."""
        with self._lock:
            return list(self._unwritten.items())

    def written(self, lines: Written) -> None:
        """These amounts of `unwritten` are in the store."""
        with self._lock:
            for line, amount in lines:
                left = self._unwritten[line] - amount
                if left.answers:
                    self._unwritten[line] = left
                else:
                    del self._unwritten[line]

    def learn(self, since: date, lines: Written) -> None:
        """What the store has of that day and later ones; earlier ones are forgotten here."""
        with self._lock:
            totals: dict[tuple[date, str, str], Amount] = {}
            for line, amount in (*lines, *self._unwritten.items()):
                if line.day >= since:
                    self._count(totals, line, amount)
            self._totals, self._is_known = totals, True

    def _today(self, what: str, name: str) -> Amount | None:
        if not self._is_known:
            return None
        return self._totals.get((_day(self._clock.now()), what, name), Amount())

    @staticmethod
    def _count(totals: dict[tuple[date, str, str], Amount], line: Line, amount: Amount) -> None:
        for key in ((line.day, "provider", line.provider), (line.day, "client", line.client)):
            totals[key] = totals.get(key, Amount()) + amount


def until_midnight(clock: Clock) -> float:
    """Seconds until the day ends, UTC."""
    now = clock.now()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
