"""Two workers and a lease that runs out, their steps interleaved in every order, over SQL and over HTTP.

Each step is checked against the state machine as it happens; in the end whoever is left does the rest; there
must have been one end and one callback.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

import pytest

from gifty_compute.core import Core
from gifty_compute.perform import TaskSource
from gifty_compute.poll.client import PollClient
from gifty_compute.queue.source import SqlSource
from gifty_compute.wire.task import Holder
from tests.chaos.ledger import Handed, Ledger

ALICE, BOB, CAROL = (Holder(worker_id=name, session="1", credential="shared") for name in ("a", "b", "c"))
SCRIPTS = {
    "submits": ("claim", "heartbeat", "submit"),
    "fails": ("claim", "fail", "heartbeat"),
    "releases": ("claim", "release", "submit"),
    "submits twice": ("claim", "submit", "submit"),
}
SOAK = float(os.environ.get("SOAK", "0"))
KINDS = [("sql", "sql"), ("sql", "http"), ("http", "http")]

Script = tuple[str, ...]


class Worker:
    """One worker that does its steps, whatever has become of its task meanwhile."""

    def __init__(self, ledger: Ledger, source: TaskSource, holder: Holder) -> None:
        self._ledger, self._source, self._holder = ledger, source, holder
        self._mine: Handed | None = None

    def do(self, step: str) -> None:
        if step == "claim":
            taken = self._ledger.claim(self._source, self._holder, 1)
            self._mine = taken[0] if taken else self._mine
        elif self._mine is not None:
            self._with(step, self._mine)

    def _with(self, step: str, mine: Handed) -> None:
        steps: dict[str, Callable[[], None]] = {
            "heartbeat": lambda: self._ledger.extend(self._source, mine),
            "submit": lambda: self._ledger.complete(self._source, mine),
            "fail": lambda: self._ledger.fail(self._source, mine, retryable=True),
            "release": lambda: self._ledger.release(self._source, mine),
        }
        steps[step]()


def interleavings(scripts: tuple[Script, ...]) -> Iterator[tuple[tuple[int, str], ...]]:
    """Every order of all steps in which each script keeps its own.

    >>> len(list(interleavings((("a", "b"), ("c",)))))
    3
    """
    if not any(scripts):
        yield ()
    for who, script in enumerate(scripts):
        if script:
            rest = (*scripts[:who], script[1:], *scripts[who + 1 :])
            for order in interleavings(rest):
                yield ((who, script[0]), *order)


@pytest.fixture
def sources(core: Core, facade_url: str) -> dict[str, TaskSource]:
    return {"sql": SqlSource(core.leases, core.store), "http": PollClient(facade_url, "internal-token")}


def run(core: Core, workers: list[tuple[TaskSource, Holder]], order: tuple[tuple[int, str], ...]) -> None:
    ledger = Ledger(core.store, core.database)
    ledger.clear()
    task_id = ledger.submit()
    doing = [Worker(ledger, source, holder) for source, holder in workers]
    for who, step in order:
        if who == len(doing):
            ledger.expire(task_id)
        else:
            doing[who].do(step)
    ledger.expire(task_id)
    ledger.promote()
    source = SqlSource(core.leases, core.store)
    for last in ledger.claim(source, CAROL, 1):
        ledger.complete(source, last)
    ledger.check()
    assert ledger.states[task_id].status == "completed"
    assert len(ledger.ends) == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("second", SCRIPTS)
def test_two_workers_in_every_order_leave_one_end(
    core: Core, sources: dict[str, TaskSource], kinds: tuple[str, str], second: str
) -> None:
    workers = [(sources[kinds[0]], ALICE), (sources[kinds[1]], BOB)]
    scripts = (SCRIPTS["submits"], SCRIPTS[second], ("expire",))

    orders = list(interleavings(scripts))
    for order in orders:
        run(core, workers, order)

    assert len(orders) == 140


@pytest.mark.timeout(0)
@pytest.mark.skipif(not SOAK, reason="three workers belong to the soak: SOAK=0..1 make soak")
@pytest.mark.parametrize("third", SCRIPTS)
def test_three_workers_in_every_order_leave_one_end(
    core: Core, sources: dict[str, TaskSource], third: str
) -> None:
    workers = [(sources["sql"], ALICE), (sources["http"], BOB), (sources["http"], CAROL)]
    scripts = (SCRIPTS["submits"][::2], SCRIPTS["releases"], SCRIPTS[third], ("expire",))

    orders = list(interleavings(scripts))
    for order in Random(3).sample(orders, max(1, round(len(orders) * SOAK))):
        run(core, workers, order)
