"""How workers end, by themselves or by force, and what becomes of what they held."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from celery import Celery

from gifty_compute.core import Core, build
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.broker import broker_url
from gifty_compute.queue.tasks import Origin
from gifty_compute.settings import Settings
from gifty_compute.wire.task import SubmitRequest, Task
from tests.conftest import EVERY_CLIENT
from tests.integration.workers.conftest import PollProcess, eventually
from tests.integration.workers.test_celery_over_http import celery_worker

StartPollWorker = Callable[..., PollProcess]
# About a hundred tokens: a pass takes five of them.
LONG = "набор для зимней рыбалки с удочкой и ящиком " * 8


@pytest.fixture
def core(short_leases: Settings) -> Iterator[Core]:
    broker = broker_url(short_leases.redis_url.get_secret_value())
    celery = Celery("test", broker=broker, set_as_current=False)
    built = build(short_leases, celery, rng=Random(3))
    yield built
    built.close()
    celery.close()


def submit(core: Core, count: int, **payload: Any) -> list[Task]:
    tasks = []
    for number in range(count):
        request = SubmitRequest(task_type="embedding", payload=payload or {"texts": [f"удочка {number}"]})
        tasks.append(core.store.submit(request, Origin(client="shop"))[0])
    return tasks


def rows(core: Core, tasks: list[Task]) -> list[dict[str, Any]]:
    found = [core.database.row("stored", id=str(task.id)) for task in tasks]
    return [row for row in found if row is not None]


def held_by(core: Core, name: str, tasks: list[Task]) -> int:
    return sum(row["status"] == "processing" and row["worker_id"] == name for row in rows(core, tasks))


def at(entry: dict[str, Any], moment: str) -> datetime:
    return datetime.fromisoformat(entry[moment])


def all_are(core: Core, tasks: list[Task], *statuses: str) -> bool:
    return all(row["status"] in statuses for row in rows(core, tasks))


def test_a_declared_session_ends_in_time_and_nothing_of_it_is_left_in_work(
    core: Core, poll_worker: StartPollWorker
) -> None:
    tasks = submit(core, 200, texts=[LONG] * 4)

    worker = poll_worker("kaggle-1", "--deadline", "20s")
    assert worker.process.wait(60) == 0

    assert held_by(core, "kaggle-1", tasks) == 0
    [drained] = worker.said("drained")
    assert drained["seconds"] <= 20
    done = [row for row in rows(core, tasks) if row["status"] == "completed"]
    assert len(done) == drained["done"] > 0
    assert all_are(core, tasks, "completed", "pending")


def test_what_a_killed_worker_held_is_done_by_another_within_lease_and_two_sweeps(
    core: Core, poll_worker: StartPollWorker
) -> None:
    tasks = submit(core, 12, texts=[LONG] * 2)
    killed = poll_worker("killed")
    eventually(lambda: held_by(core, "killed", tasks) > 1, "it holds several tasks")

    killed.process.send_signal(signal.SIGKILL)
    poll_worker("other")
    eventually(lambda: all_are(core, tasks, "completed"), "all are done by the other")

    rescues = [
        entry for row in rows(core, tasks) for entry in row["history"] or [] if entry["end"] == "expired"
    ]
    late = [(at(entry, "until") - at(entry, "lease_until")).total_seconds() for entry in rescues]
    # Two periods of maintain; doubled, since the machine may be busy with other things.
    assert 0 <= min(late) <= max(late) <= 2 * 2 * core.settings.maintain_period_seconds
    assert {row["worker_id"] for row in rows(core, tasks)} <= {"killed", "other"}


def test_tasks_that_are_cancelled_in_the_hand_are_not_begun(core: Core, poll_worker: StartPollWorker) -> None:
    tasks = submit(core, 4, texts=[LONG] * 16)
    worker = poll_worker("kaggle-1")
    eventually(lambda: held_by(core, "kaggle-1", tasks) == 4, "it holds all")

    for task in tasks[1:]:
        core.store.cancel(EVERY_CLIENT, task.id)
    eventually(lambda: all_are(core, tasks, "completed", "cancelled"), "the first is done")
    worker.process.send_signal(signal.SIGTERM)

    assert worker.process.wait(60) == 0
    [drained] = worker.said("drained")
    assert (drained["done"], drained["lost"], drained["failed"]) == (1, 3, 0)


def test_workers_of_both_kinds_share_mixed_tasks_and_each_is_done_once(
    core: Core, poll_worker: StartPollWorker, valkey: Valkey, tmp_path: Path
) -> None:
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("embedding", {"texts": ["чайник", "самовар"]}),
        ("rerank", {"query": "подарок рыбаку", "documents": ["удочка", "помада"]}),
        ("classify", {"external_names": ["Удочки"], "internal_categories": [{"id": 1, "name": "Рыбалка"}]}),
        ("embedding", {"texts": [LONG]}),
    ]
    submitted = []

    def submit_all(count: int) -> None:
        for number in range(count):
            task_type, payload = kinds[number % len(kinds)]
            request = SubmitRequest(task_type=task_type, payload=payload)
            task, _ = core.store.submit(request, Origin(client="shop"))
            core.announcer.announce(task)
            submitted.append(task)

    environment = {"OMP_NUM_THREADS": "1", "DATABASE_URL": core_url(core), "REDIS_URL": valkey.url}
    with celery_worker("celery", tmp_path / "celery.log", **environment):
        workers = [poll_worker("kaggle-1"), poll_worker("kaggle-2")]
        eventually(lambda: all(worker.said("ready") for worker in workers), "the poll workers are ready")
        control = core.announcer._app.control
        eventually(lambda: control.ping(["celery@test"], timeout=1), "the Celery worker answers")
        submit_all(160)
        eventually(lambda: all_are(core, submitted, "completed"), "all are done", within=100)

    found = rows(core, submitted)
    assert {row["attempt"] for row in found} == {1}
    assert {row["worker_id"] for row in found} == {"kaggle-1", "kaggle-2", "celery@test"}


def core_url(core: Core) -> str:
    return core.database.engine.url.render_as_string(hide_password=False)
