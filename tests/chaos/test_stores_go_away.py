"""Stores that go away: what is accepted stays accepted, and everything recovers by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from tests.e2e.service import Service, eventually, service


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("broker"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("database"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory, broker: Valkey, database_server: Postgres
) -> Iterator[Service]:
    """A Celery worker over servers that the tests may stop; no poll worker of its own."""
    env = {"REDIS_URL": broker.url, "DATABASE_URL": database_server.url}
    with service(tmp_path_factory.mktemp("up"), "--poll-workers", "0", env=env) as running:
        yield running


def again(server: Valkey | Postgres) -> None:
    """The server at the same place, as an operator would start it again."""
    server.child.start()
    server.wait_ready()


def claim(up: Service, worker: str, **query: Any) -> list[dict[str, Any]]:
    answer = up.call("GET", "/internal/workers/tasks", params={"worker_id": worker, **query})
    assert answer.status_code == 200, answer.text
    tasks: list[dict[str, Any]] = answer.json()["tasks"]
    return tasks


def finish(up: Service, task: dict[str, Any]) -> int:
    vectors = [[float(n + 1) for n in range(384)] for _ in task["payload"]["texts"]]
    body = {"status": "completed", "result": {"embeddings": vectors}, "worker_id": "bare"}
    return up.call("POST", f"/internal/workers/tasks/{task['id']}/result", json=body).status_code


def test_with_redis_down_submits_are_kept_and_http_workers_go_on_and_celery_returns(
    up: Service, broker: Valkey
) -> None:
    broker.child.stop()
    try:
        by_poll = up.submit("первый")
        (task,) = claim(up, "bare")
        assert task["id"] == by_poll
        assert finish(up, task) == 200
        by_celery = [up.submit(f"позже {n}") for n in range(30)]
    finally:
        again(broker)

    tasks = up.all_done(by_celery, within=60)
    assert {task["worker_id"].split("@")[0] for task in tasks} == {"celery-1"}


def test_without_redis_an_abandoned_lease_is_rescued_and_a_failure_is_retried(
    up: Service, broker: Valkey
) -> None:
    broker.child.stop()
    try:
        task_id = up.submit("брошенный")
        (abandoned,) = claim(up, "vanishes")
        rescued = eventually(lambda: claim(up, "second"), within=20, what="the lease ran out")
        body = {"status": "failed", "error": "out of memory", "attempt": rescued[0]["attempt"]}
        failed = up.call("POST", f"/internal/workers/tasks/{task_id}/result", json=body)
        retried = eventually(lambda: claim(up, "third"), within=20, what="the failure is retried")
        assert finish(up, retried[0]) == 200
    finally:
        again(broker)

    assert abandoned["id"] == rescued[0]["id"] == retried[0]["id"] == task_id
    assert failed.json()["status"] == "pending"
    ended = up.task(task_id)
    assert (ended["status"], ended["attempt"], ended["failures"]) == ("completed", 3, 2)


def test_with_postgres_down_callers_get_503_and_the_service_recovers_by_itself(
    up: Service, database_server: Postgres
) -> None:
    body = {"task_type": "embedding", "payload": {"texts": ["a"]}}
    before = up.submit("до")
    database_server.child.stop()
    try:
        refused = [
            up.call("POST", "/v1/tasks", json=body),
            up.call("GET", f"/v1/tasks/{before}"),
            up.call("GET", "/internal/workers/tasks", params={"worker_id": "w"}),
            up.call("GET", "/readyz"),
        ]
        high = up.call("POST", "/v1/embeddings", json={"input": "чай", "timeout_ms": 20_000})
        alive = up.call("GET", "/healthz")
    finally:
        again(database_server)

    assert [answer.status_code for answer in refused] == [503] * 4
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert {answer.json()["error"]["code"] for answer in refused} == {"store_unavailable"}
    assert (high.status_code, alive.status_code) == (200, 200)
    up.all_done([before], within=40)
    eventually(lambda: up.call("GET", "/readyz").ok, within=20, what="ready again")


def test_concurrent_submits_under_a_kill_of_the_facade_are_kept_or_refused(up: Service) -> None:
    accepted: list[str] = []
    go_on = threading.Event()
    go_on.set()

    def submit_on() -> None:
        number = 0
        while go_on.is_set():
            number += 1
            try:
                accepted.append(up.submit(f"поток {threading.get_ident()} {number}"))
            except (OSError, AssertionError):
                continue  # refused or unanswered: not promised

    threads = [threading.Thread(target=submit_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(accepted) > 20, within=30, what="submits flow")
    old = up.run["pids"]["facade"]
    os.killpg(os.getpgid(old), signal.SIGKILL)
    eventually(lambda: up.run["pids"].get("facade") != old, within=30, what="the facade is started again")
    mark = len(accepted)
    eventually(lambda: len(accepted) > mark + 20, within=60, what="submits flow again")
    go_on.clear()
    for thread in threads:
        thread.join(30)

    up.all_done(list(accepted), within=100)


def submit_one(up: Service, ids: list[str]) -> str:
    ids.append(up.submit(f"ещё один {len(ids)}"))
    return ids[-1]


def submit_and_claim(up: Service, ids: list[str]) -> dict[str, Any] | None:
    """One more task, and a claim of one; None where a worker was quicker."""
    submit_one(up, ids)
    return next(iter(claim(up, "fails", limit=1)), None)


def test_with_no_celery_worker_and_no_redis_the_poll_worker_does_it_all(
    tmp_path_factory: pytest.TempPathFactory, broker: Valkey
) -> None:
    options = ("--celery-workers", "0", "--poll-workers", "1")
    with service(tmp_path_factory.mktemp("poll-only"), *options, env={"REDIS_URL": broker.url}) as up:
        broker.child.stop()
        try:
            ids = [up.submit(f"без брокера {n}") for n in range(80)]
            # The worker may have been quick, and taken all of them.
            failing = eventually(lambda: submit_and_claim(up, ids), within=60, what="a task is claimed")
            path = f"/internal/workers/tasks/{failing['id']}/result"
            up.call("POST", path, json={"status": "failed", "error": "no", "attempt": 1})
            held = {"status": "processing", "limit": 100}
            eventually(
                lambda: submit_one(up, ids) and up.call("GET", "/v1/tasks", params=held).json()["tasks"],
                within=30,
                what="work",
            )

            os.killpg(os.getpgid(up.run["pids"]["poll-1"]), signal.SIGKILL)

            tasks = up.all_done(ids, within=90)
        finally:
            again(broker)

    assert {task["worker_id"] for task in tasks} == {"poll-1"}
    (failed_once,) = [task for task in tasks if task["id"] == failing["id"]]
    assert (failed_once["attempt"] >= 2, failed_once["failures"]) == (True, 1)
