"""Presence of workers: stored off the request's way, bounded, and kept when the database is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue import presence as presences
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.presence import Presence
from gifty_compute.wire.task import Holder, Want
from tests.unit.conftest import HandClock

E5 = "multilingual-e5-small"
HOME = Holder(worker_id="home", credential="c", session="s")
WANT = Want(task_types=("embedding",), models=(E5,))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def presence(database: Database, leases: LeaseStore, clock: HandClock) -> Presence:
    return Presence(database, leases.offered, clock)


@pytest.fixture
def stored(database: Database) -> Callable[[], list[Any]]:
    def read(what: str = "worker_id, task_type, model, session") -> list[Any]:
        with database.connection() as connection:
            rows = connection.execute(text(f"SELECT {what} FROM compute_workers ORDER BY 1, 2"))
            return [tuple(row) for row in rows]

    return read


def test_many_claims_of_a_worker_are_one_row_every_ten_seconds(
    presence: Presence, database: Database, stored: Callable[..., list[Any]], clock: HandClock
) -> None:
    written = []
    for _ in range(6):
        presence.asked(HOME, WANT)
        presence.flush()
        written.append(stored("seen_at, worker_id"))
        clock.advance(4)

    assert len({tuple(rows) for rows in written}) == 2
    assert [len(rows) for rows in written] == [1] * 6


def test_a_worker_takes_all_that_it_asked_for_of_late(
    presence: Presence, stored: Callable[..., list[Any]]
) -> None:
    presence.asked(HOME, WANT)
    presence.asked(HOME, Want(task_types=("rerank",), models=(E5,)))
    presence.flush()

    assert stored() == [("home", "embedding", E5, "s"), ("home", "rerank", E5, "s")]


def test_what_could_not_be_stored_is_stored_later(
    presence: Presence, database: Database, stored: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.asked(HOME, WANT)
    presence.beat(HOME)

    def away(*_: object, **__: object) -> Any:
        raise StoreUnavailable("the database does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(database, "rows", away)
        with pytest.raises(StoreUnavailable):
            presence.flush()
    presence.flush()

    assert stored() == [("home", "embedding", E5, "s")]


def test_a_token_that_comes_with_ever_new_names_is_bounded_and_keeps_no_other_out(
    presence: Presence,
    stored: Callable[..., list[Any]],
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presences, "_MOST_NOTES", 50)
    monkeypatch.setattr(presences, "_MOST_OF_A_CREDENTIAL", 60)
    for number in range(200):
        presence.asked(Holder(worker_id=f"w{number:03}", credential="flood"), WANT)
        if number % 40 == 39:
            presence.flush()
    presence.asked(HOME, WANT)
    presence.flush()
    clock.advance(11)
    presence.asked(Holder(worker_id="w000", credential="flood", session="again"), WANT)
    presence.flush()

    found = stored("worker_id, session")
    assert len(found) < 110
    assert ("home", "s") in found
    assert ("w000", "again") in found


def test_two_processes_that_heard_the_same_workers_do_not_hinder_each_other(
    database: Database, leases: LeaseStore, stored: Callable[..., list[Any]]
) -> None:
    one, other = (Presence(database, leases.offered, HandClock()) for _ in range(2))
    for number in range(20):
        one.asked(Holder(worker_id=f"w{number}", credential="c"), WANT)
        other.asked(Holder(worker_id=f"w{19 - number}", credential="c"), WANT)

    one.flush()
    other.flush()

    assert len(stored()) == 20
