"""The herald and its broker: without it nothing waits; several facades agree about one worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry

from gifty_compute.clock import SystemClock
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.fleet.fleet import Fleet
from gifty_compute.fleet.herald import Herald
from gifty_compute.fleet.roster import Roster
from gifty_compute.queue.broker import broker_url
from tests.chaos.proxy import FaultProxy
from tests.e2e.service import eventually

NewFleet = Callable[..., Fleet]


@pytest.fixture
def heard(valkey: Valkey) -> Iterator[Callable[[str], list[str]]]:
    """The types of all events of a node so far, as any monitor of Celery gets them."""
    app = Celery("ear", broker=broker_url(valkey.url), set_as_current=False)
    seen: list[Any] = []
    connection = app.connection_for_read()
    receiver = app.events.Receiver(connection, handlers={"*": seen.append})
    thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None})
    thread.start()
    yield lambda node: [event["type"] for event in list(seen) if event["hostname"] == f"{node}@pull"]
    receiver.should_stop = True
    thread.join(20)
    connection.release()
    app.close()


def test_a_worker_that_another_facade_hears_is_not_taken_for_gone(new_fleet: NewFleet, heard: Any) -> None:
    here, there = new_fleet(silence=2.0), new_fleet(silence=2.0)
    here.asked("both", (), ())
    eventually(lambda: "worker-heartbeat" in heard("both"), within=20, what="it was heard here")
    ended = SystemClock().monotonic() + 4.0

    def time_is_over() -> bool:
        there.asked("both", (), ())
        return SystemClock().monotonic() > ended

    eventually(time_is_over, within=30, what="twice the silence has passed here")

    assert "both@pull" not in here._roster.present()
    assert "worker-offline" not in heard("both")
    eventually(lambda: "worker-offline" in heard("both"), within=30, what="it is gone for all")


def test_the_bridge_notes_workers_while_the_broker_hangs() -> None:
    app, gate = Celery("hung", broker="redis://127.0.0.1:1", set_as_current=False), threading.Event()
    app.connection_for_write = lambda: gate.wait(60) and None  # type: ignore[method-assign]
    roster = Roster(60.0)
    fleet = Fleet(roster, Herald(app, roster, SystemClock(), 60.0, CollectorRegistry()), SystemClock())
    fleet.start()

    for number in range(20_000):
        fleet.asked(f"w-{number % 50}", (), ())
        fleet.beat(f"w-{number % 50}", {"gpu": "T4"}, 3)

    assert len(roster.present()) == 50
    assert not gate.is_set()
    fleet.stop()
    gate.set()


def test_a_broker_that_comes_back_is_told_of_the_fleet_again(
    new_fleet: NewFleet, valkey: Valkey, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gifty_compute.fleet.herald._PAUSE_SECONDS", 0.2)
    address = urlsplit(valkey.url)
    with FaultProxy(unquote(address.path)) as proxy:
        fleet = new_fleet(url=f"redis://:{address.password}@127.0.0.1:{proxy.port}/0", silence=9.0)
        fleet.asked("before", (), ())
        eventually(lambda: "worker-online" in heard("before"), within=20, what="the broker was told")
        with proxy.hanging():
            proxy.cut()
            fleet.asked("meanwhile", (), ())
            eventually(lambda: fleet._herald._away, within=20, what="the herald notices")

        eventually(lambda: "worker-online" in heard("meanwhile"), within=30, what="the broker is told again")
        fleet.stop()
        fleet._herald.join(20)
