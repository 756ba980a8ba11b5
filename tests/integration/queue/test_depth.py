"""How many tasks of a client may wait, counted on real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from gifty_compute.clock import SystemClock
from gifty_compute.errors import OverLimit
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.depth import QueueDepth
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.wire.task import Holder, Want
from tests.conftest import LOCAL_LOGIC


class Clock(SystemClock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        raise AssertionError("nobody asks for the time of day")


class Counted(Database):
    """Notes which statements ran."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine, SystemClock(), most_waiting=4)
        self.ran: list[str] = []

    def rows(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        self.ran.append(query)
        return super().rows(query, **parameters)


def limited(queue_depth: int) -> Logic:
    text = LOCAL_LOGIC.read_text() + f"limits: {{queue_depth: {queue_depth}}}\n"
    return parse_logic(text, {}, name="logic.yaml", folder=LOCAL_LOGIC.parent)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted(database: Database) -> Counted:
    return Counted(database)


@pytest.fixture
def depth(counted: Counted, clock: Clock) -> Callable[[int], QueueDepth]:
    return lambda limit: QueueDepth(counted, lambda: limited(limit), clock)


def fill(database: Database, lane: str, count: int, **columns: str) -> None:
    values = {"task_type": "embedding", "model": "multilingual-e5-small", "priority": "low", **columns}
    with database.connection() as connection:
        connection.execute(
            text(
                "INSERT INTO compute_tasks (task_type, model, priority, payload, lane) "
                "SELECT :task_type, :model, :priority, '{}', :lane FROM generate_series(1, :count)"
            ),
            {**values, "lane": lane, "count": count},
        )


def admitted(depth: QueueDepth, client: str = "shop") -> bool:
    try:
        depth.admit(client)
    except OverLimit:
        return False
    depth.add(client)
    return True


def test_as_many_as_may_wait_are_admitted_and_no_more(
    database: Database, depth: Callable[[int], QueueDepth]
) -> None:
    rooms = depth(3)

    for _ in range(3):
        assert admitted(rooms)
        fill(database, "shop", 1)

    assert not admitted(rooms)
    assert admitted(rooms, "another")


def test_tasks_of_all_types_models_and_priorities_count_and_those_of_others_do_not(
    database: Database,
) -> None:
    for task_type in ("embedding", "rerank", "own-type"):
        for model in ("a", "b"):
            for priority in ("low", "high"):
                fill(database, "shop", 2, task_type=task_type, model=model, priority=priority)
                fill(database, "shop-2", 5, task_type=task_type, model=model, priority=priority)

    assert database.row("depth", lane="shop", enough=1000) == {"waiting": 24}
    assert database.row("depth", lane="shop", enough=10) == {"waiting": 10}
    assert database.row("depth", lane="nobody", enough=10) == {"waiting": 0}


def test_what_is_in_work_or_done_waits_no_more(
    database: Database, leases: LeaseStore, depth: Callable[[int], QueueDepth], clock: Clock
) -> None:
    fill(database, "shop", 2)
    rooms = depth(2)
    assert not admitted(rooms)

    leases.claim(Holder(worker_id="w"), Want(limit=1))
    clock.seconds += 60

    assert admitted(rooms)


def test_a_client_with_room_is_counted_now_and_then(
    database: Database, counted: Counted, depth: Callable[[int], QueueDepth]
) -> None:
    rooms = depth(10_000)

    assert all(admitted(rooms) for _ in range(1000))

    assert counted.ran == ["depth"]


def test_a_full_client_is_counted_no_more_often_than_it_is_told_to_come_back(
    database: Database, counted: Counted, depth: Callable[[int], QueueDepth], clock: Clock
) -> None:
    fill(database, "shop", 5)
    rooms = depth(5)

    with pytest.raises(OverLimit, match="5 tasks of shop") as refused:
        rooms.admit("shop")
    assert not any(admitted(rooms) for _ in range(100))
    counts_at_first = len(counted.ran)
    clock.seconds += refused.value.retry_after
    assert not admitted(rooms)

    assert counts_at_first == 1
    assert len(counted.ran) == 2


def test_a_batch_uses_up_the_room(
    database: Database, counted: Counted, depth: Callable[[int], QueueDepth]
) -> None:
    rooms = depth(1000)
    rooms.admit("shop")

    fill(database, "shop", 2000)
    rooms.add("shop", 2000)

    assert not admitted(rooms)


def test_a_new_limit_is_in_force_at_once(counted: Counted, database: Database, clock: Clock) -> None:
    fill(database, "shop", 5)
    limits = [5, 6]
    rooms = QueueDepth(counted, lambda: limited(limits[0]), clock)
    assert not admitted(rooms)

    limits.pop(0)

    assert admitted(rooms)


def test_who_comes_while_somebody_counts_does_not_wait(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Database):
        def rows(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
            begun.set()
            assert go_on.wait(30)
            return super().rows(query, **parameters)

    fill(database, "shop", 5)
    rooms = QueueDepth(Slow(database.engine, SystemClock(), most_waiting=4), lambda: limited(5), clock)
    verdicts: list[bool] = []
    counting = threading.Thread(target=lambda: verdicts.append(admitted(rooms)))

    counting.start()
    assert begun.wait(30)
    meanwhile = admitted(rooms)
    go_on.set()
    counting.join(30)

    assert meanwhile is True
    assert verdicts == [False]
    assert not admitted(rooms)
