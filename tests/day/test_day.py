"""A day of the service, in an hour or in a minute: clients, providers that misbehave, edits, restarts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from tests.chaos.fleet import Fleet
from tests.day.callers import CLIENTS, Callers
from tests.day.file import Operator, write_files
from tests.day.invariants import Blind, faults
from tests.day.vendors import Vendors
from tests.e2e.service import eventually

DAY = float(os.environ.get("DAY", "0"))
SECONDS = 75 + (3600 - 75) * DAY
# Providers' budgets grow with it, so that they are spent in the first part of a long day, too.
LENGTH = 1 + 19 * DAY

pytestmark = pytest.mark.timeout(0 if DAY else 600)


def test_every_promise_holds_through_a_day(
    new_fleet: Callable[..., Fleet],
    servers: tuple[Postgres, Valkey],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, rng = SystemClock(), Random(20_261_129)
    with Vendors(clock, rng) as vendors:
        fleet = new_fleet(
            API_TOKENS=",".join(f"{client}:{client}-token" for client in CLIENTS),
            CALLBACK_SECRET="whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0",
        )
        path = write_files(tmp_path, vendors, LENGTH)
        for name in ("facade-a", "facade-b"):
            fleet.facade(name)
        fleet.poll_worker("poll-1", fleet.urls["facade-a"])
        fleet.wait_ready()
        callers, operator = Callers(fleet.urls, clock, rng), Operator(path, every=10 if DAY else 3)
        blind: list[Blind] = []
        day = Day(fleet, clock, blind)
        callers.start()
        operator.start()
        postgres, valkey = servers
        day.until(0.25)
        day.restarted(valkey, "redis")
        day.until(0.4)
        day.restarted(postgres, "postgres")
        day.until(0.6)
        day.restarted(valkey, "redis")
        day.until(0.75)
        with day.blinded("facade-b"):
            fleet.kill("facade-b", signal.SIGTERM)
            fleet.wait_ready("facade-b")
        day.until(1.0)
        callers.stop()
        operator.stop()
        fleet.accepted = callers.accepted
        audit = fleet.all_ended(within=120)
        logs = "".join((tmp_path / f"{name}.log").read_text() for name in fleet.urls)
        found = faults(vendors, callers.calls, blind, logs, LENGTH)

    with capsys.disabled():
        print("\n" + summary(vendors, callers, operator))
    assert not found, "\n".join(f"{len(many)} x {name}: {many[:6]}" for name, many in found.items())
    audit.demand()
    assert operator.edits > 5
    assert {call.client for call in callers.calls if call.status == 200} == set(CLIENTS)


class Day:
    """Its course: fractions of its length, and the times in which a part was away."""

    def __init__(self, fleet: Fleet, clock: SystemClock, blind: list[Blind]) -> None:
        self._fleet, self._clock, self._blind = fleet, clock, blind
        self._began = clock.monotonic()

    def until(self, fraction: float) -> None:
        end = Deadline(self._began + fraction * SECONDS, self._clock)
        eventually(lambda: end.expired, within=end.remaining + 5, what=f"{fraction} of the day")

    @contextmanager
    def blinded(self, what: str) -> Iterator[None]:
        began = self._clock.now().timestamp()
        yield
        self._blind.append(Blind(began, self._clock.now().timestamp(), what))

    def restarted(self, server: Postgres | Valkey, what: str) -> None:
        with self.blinded(what):
            server.child.stop()
            server.child.start()
            server.wait_ready()


def summary(vendors: Vendors, callers: Callers, operator: Operator) -> str:
    """What the day was made of."""
    lines = [f"a day of {SECONDS:.0f} s, {operator.edits} edits, {len(callers.accepted)} single tasks"]
    for provider in vendors.NAMES:
        charges = vendors.charges(provider)
        met: dict[str, int] = {}
        for one in charges:
            met[one.behaviour] = met.get(one.behaviour, 0) + 1
        usd = sum(one.usd for one in charges)
        lines.append(f"  {provider:<7} {len(charges):>6} requests {usd:>9.3f} $  {met}")
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for call in callers.calls:
        of = counts.setdefault((call.client, call.what), {})
        of[str(call.status)] = of.get(str(call.status), 0) + 1
    lines += [f"  {client:<7} {what:<9} {statuses}" for (client, what), statuses in sorted(counts.items())]
    return "\n".join(lines)
