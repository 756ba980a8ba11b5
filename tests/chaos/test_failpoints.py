"""A crash at each named point: after the commit, before whatever should come next."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.fleet import SOAK, Audit, Fleet, scaled
from tests.e2e.service import eventually

pytestmark = pytest.mark.timeout(0 if SOAK else 600)

ROUNDS = scaled(1, 100)
PROGRAMS = ("facade", "celery-1", "poll-1")
LONG = "подарок для дедушки, который любит рыбалку и баню, " * 24


def submit_some(fleet: Fleet) -> None:
    fleet.submit(20)


def submit_long(fleet: Fleet) -> None:
    """So long that a heartbeat comes in the middle."""
    body = {"task_type": "embedding", "payload": {"texts": [LONG] * 3}}
    for _ in range(6):
        answer = fleet.call("POST", "/v1/tasks", json=body)
        fleet.accepted.append(answer.json()["id"])


def fail_one(fleet: Fleet) -> None:
    """Somebody reports a failure. The facade may die of it: then the lease runs out."""
    fleet.submit(3)
    query = {"worker_id": "fails", "model": "multilingual-e5-small", "limit": 1}
    for task in fleet.call("GET", "/internal/workers/tasks", params=query).json()["tasks"]:
        body = {"status": "failed", "error": "out of memory", "attempt": task["attempt"]}
        quietly(lambda task=task, body=body: fleet.call("POST", result_path(task), json=body))


def vanish(fleet: Fleet) -> None:
    fleet.submit(3)
    query = {"worker_id": "vanishes", "model": "multilingual-e5-small", "limit": 2}
    fleet.call("GET", "/internal/workers/tasks", params=query)


def insert_by_sql(fleet: Fleet) -> None:
    [row] = fleet.sql(
        "INSERT INTO compute_tasks (task_type, payload) VALUES ('embedding', %s) RETURNING id",
        '{"texts": ["из базы"]}',
    )
    fleet.accepted.append(str(row["id"]))


def cancel_and_retry(fleet: Fleet) -> None:
    fleet.submit(1)
    task_id = fleet.accepted[-1]
    for path in ("cancel", "retry"):
        eventually(lambda path=path: answered(fleet, f"/v1/tasks/{task_id}/{path}"), within=60, what=path)


def drain_a_worker(fleet: Fleet) -> None:
    """A worker that has just begun takes four tasks, whatever they are: more than it can do at once."""
    fleet.stop("poll-1")
    submit_long(fleet)
    fleet.restart("poll-1")
    eventually(lambda: held_by(fleet, "poll-1") > 1, within=30, what="poll-1 holds several tasks")
    fleet.signal("poll-1", signal.SIGTERM)


POINTS: dict[str, Callable[[Fleet], None]] = {
    "sql:submit": submit_some,
    "Announcer.announce": submit_some,
    "sql:claim": submit_some,
    "sql:complete": submit_some,
    "PollClient.claim": submit_some,
    "PollClient.report": submit_some,
    "sql:extend": submit_long,
    "PollClient.extend": submit_long,
    "sql:fail": fail_one,
    "sql:promote": fail_one,
    "sql:sweep": vanish,
    "sql:unplaced": insert_by_sql,
    "sql:place": insert_by_sql,
    "sql:backlog": submit_some,
    "sql:cancel": cancel_and_retry,
    "sql:retry": cancel_and_retry,
    "PollClient.release": drain_a_worker,
}
# Who is away then. The Celery worker is told of tasks at once and leaves none for one that asks now and then;
# maintain sees what is ready where no worker is faster to take it.
AWAY = {
    "PollClient.claim": ["celery-1"],
    "PollClient.report": ["celery-1"],
    "PollClient.extend": ["celery-1"],
    "PollClient.release": ["celery-1"],
    "sql:backlog": ["celery-1", "poll-1"],
}


def again_and_again(armed: Path, provoke: Callable[[Fleet], None], fleet: Fleet) -> None:
    """Until somebody has come to the point: the worker that is meant may be late for the first tasks."""
    while armed.exists() and not fleet.is_over:
        with suppress(OSError, AssertionError):
            provoke(fleet)
            eventually(lambda: not armed.exists(), within=8, what="somebody comes to it")


def quietly(call: Callable[[], Any]) -> None:
    """What a caller bears whose facade has just died: no answer."""
    try:
        call()
    except OSError:
        return


def answered(fleet: Fleet, path: str) -> bool:
    """Whether it is done, now or by the call whose answer was lost."""
    try:
        return fleet.call("POST", path).status_code in (200, 409)
    except OSError:
        return False


def result_path(task: dict[str, Any]) -> str:
    return f"/internal/workers/tasks/{task['id']}/result"


def held_by(fleet: Fleet, worker: str) -> int:
    [row] = fleet.sql(
        "SELECT count(*) AS n FROM compute_tasks WHERE status = 'processing' AND worker_id = %s", worker
    )
    return int(row["n"])


def test_a_crash_at_every_point_loses_nothing(
    new_fleet: Callable[..., Fleet], report: Callable[[str, Audit], None], tmp_path: Path
) -> None:
    armed = tmp_path / "armed"
    fleet = new_fleet(CRASH_POINT=str(armed))
    url = fleet.facade(app="tests.chaos.crashing_facade:app")
    fleet.celery("celery-1", app="tests.chaos.crashing_worker")
    fleet.poll_worker("poll-1", url, module="tests.chaos.crashing_poll")
    fleet.wait_ready()

    for _ in range(ROUNDS):
        for point, provoke in POINTS.items():
            for name in AWAY.get(point, []):
                fleet.stop(name)
            armed.with_suffix(".new").write_text(point)
            armed.with_suffix(".new").rename(armed)
            # In a thread: a caller whose facade has died asks again until it is back.
            provoking = threading.Thread(target=again_and_again, args=(armed, provoke, fleet), daemon=True)
            provoking.start()
            eventually(lambda: not armed.exists(), within=60, what=f"somebody comes to {point}")
            fleet.bring_back(*PROGRAMS)
            provoking.join(60)
            fleet.bring_back(*PROGRAMS)

    report(f"{len(POINTS)} points, {ROUNDS} times", fleet.all_ended(within=300))
