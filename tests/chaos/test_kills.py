"""kill -9 of workers under load, vanishing and hoarding poll workers, rolling restarts."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.chaos.fleet import PERIOD_SECONDS, SOAK, Audit, Fleet, scaled
from tests.e2e.service import eventually

pytestmark = pytest.mark.timeout(0 if SOAK else 600)

# The largest claim: what a restarted facade leaves unanswered. What a drain gives back has not been begun.
_MOST_IN_HAND = 100

NewFleet = Callable[..., Fleet]
Report = Callable[[str, Audit], None]


def done(fleet: Fleet) -> int:
    [row] = fleet.sql("SELECT count(*) AS n FROM compute_tasks WHERE status = 'completed'")
    return int(row["n"])


def test_celery_workers_killed_under_load_lose_nothing(new_fleet: NewFleet, report: Report) -> None:
    tasks, kills = scaled(2_000, 100_000), scaled(20, 1_000)
    fleet = new_fleet()
    fleet.facade()
    fleet.celery("threads-1")
    fleet.celery("prefork-1", pool="prefork")
    fleet.wait_ready()

    with fleet.submitting(tasks):
        for kill in range(kills):
            due = (kill + 1) * tasks // (kills + 2)
            eventually(lambda due=due: done(fleet) >= due, within=300, what=f"{due} tasks are done")
            if kill % 3 == 0:
                fleet.kill("threads-1")
            elif kill % 3 == 1:
                fleet.kill("prefork-1")
            elif not fleet.kill_child("prefork-1"):
                fleet.kill("threads-1")

    report(f"{tasks} tasks, {kills} kills", fleet.all_ended(within=300))


def test_poll_workers_that_vanish_or_hoard_hold_up_nobody(new_fleet: NewFleet, report: Report) -> None:
    tasks, vanishing = scaled(500, 20_000), scaled(20, 500)
    fleet = new_fleet()
    url = fleet.facade()
    fleet.wait_ready()
    fleet.submit(tasks)
    for number in range(vanishing):
        claim(fleet, f"vanishes-{number}", limit=5)
    hoarding = threading.Event()
    hoarder = threading.Thread(target=hoard, args=(url, hoarding))
    hoarder.start()
    fleet.poll_worker("poll-1", url)
    fleet.poll_worker("poll-2", url)
    fleet.wait_ready()

    eventually(lambda: done(fleet) >= tasks // 3, within=300, what="a third is done")
    fleet.kill("poll-1")
    eventually(lambda: done(fleet) >= tasks // 2, within=300, what="half is done")
    hoarding.set()
    hoarder.join(30)

    audit = fleet.all_ended(within=300)
    report(f"{tasks} tasks, {vanishing} vanished", audit)
    # Two periods of maintain after the lease's end; doubled, since the machine may be busy with other things.
    assert audit.slowest_rescue <= 2 * (2 * PERIOD_SECONDS) or SOAK


def claim(fleet: Fleet, worker: str, **query: Any) -> list[dict[str, Any]]:
    query = {"worker_id": worker, "lease": "", "model": "multilingual-e5-small", **query}
    params = {name: value for name, value in query.items() if value != ""}
    answer = fleet.call("GET", "/internal/workers/tasks", params=params)
    assert answer.status_code == 200, answer.text
    tasks: list[dict[str, Any]] = answer.json()["tasks"]
    return tasks


def hoard(url: str, stop: threading.Event) -> None:
    """Claims as much as it gets, renews its leases, and does nothing; then it vanishes."""
    headers = {"Authorization": "Bearer internal-token"}
    query = {"worker_id": "hoards", "model": "multilingual-e5-small", "limit": "40"}
    with requests.Session() as session:
        path = f"{url}/internal/workers/tasks"
        tasks = session.get(path, params=query, headers=headers, timeout=30).json()["tasks"]
        held = [{"id": task["id"], "attempt": task["attempt"]} for task in tasks]
        while not stop.wait(1):
            body = {"worker_id": "hoards", "tasks": held}
            session.post(f"{url}/internal/workers/heartbeat", json=body, headers=headers, timeout=30)


def test_rolling_restarts_lose_nothing_and_begin_little_twice(new_fleet: NewFleet, report: Report) -> None:
    restarts = scaled(6, 200)
    tasks = restarts * 60
    fleet = new_fleet()
    url = fleet.facade()
    fleet.celery("celery-1")
    fleet.poll_worker("poll-1", url)
    fleet.wait_ready()

    names = itertools.cycle(["celery-1", "poll-1", "facade"])
    with fleet.submitting(tasks):
        for restart, name in zip(range(restarts), names, strict=False):
            due = (restart + 1) * tasks // (restarts + 2)
            eventually(lambda due=due: done(fleet) >= due, within=300, what=f"{due} tasks are done")
            status = fleet.stop(name)
            assert status in (0, 128 + signal.SIGTERM, -signal.SIGTERM), fleet.log(name)
            fleet.restart(name)
            fleet.wait_ready(name)

    audit = fleet.all_ended(within=300)
    report(f"{tasks} tasks, {restarts} restarts", audit)
    assert audit.begun_again <= restarts * _MOST_IN_HAND
