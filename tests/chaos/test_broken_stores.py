"""Redis and PostgreSQL that are flushed, restarted, hang, or lose their replies, under load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
import redis

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from tests.chaos.fleet import SOAK, Audit, Fleet, scaled
from tests.chaos.proxy import FaultProxy
from tests.e2e.service import eventually

pytestmark = pytest.mark.timeout(0 if SOAK else 400)

NewFleet = Callable[..., Fleet]
Report = Callable[[str, Audit], None]
TASKS = scaled(150, 10_000)


@pytest.fixture
def redis_proxy(servers: tuple[Postgres, Valkey]) -> Iterator[FaultProxy]:
    with FaultProxy(unquote(urlsplit(servers[1].url).path)) as proxy:
        yield proxy


@pytest.fixture
def database_proxy(servers: tuple[Postgres, Valkey]) -> Iterator[FaultProxy]:
    [directory] = parse_qs(urlsplit(servers[0].url).query)["host"]
    with FaultProxy(f"{directory}/.s.PGSQL.5432") as proxy:
        yield proxy


def through(proxy: FaultProxy) -> Callable[[str], str]:
    """The same address, by way of the proxy."""

    def lead(url: str) -> str:
        parts = urlsplit(url)
        user = f"{parts.username or ''}:{quote(parts.password or '', safe='')}"
        scheme, path = ("redis", "/0") if parts.scheme == "unix" else (parts.scheme, parts.path)
        return f"{scheme}://{user}@127.0.0.1:{proxy.port}{path}"

    return lead


def at_work(fleet: Fleet) -> None:
    """A facade and a worker of each kind are ready."""
    url = fleet.facade()
    fleet.celery("celery-1")
    fleet.poll_worker("poll-1", url)
    fleet.wait_ready()


@contextmanager
def under_load(fleet: Fleet, tasks: int) -> Iterator[None]:
    """Half of the tasks are there, the others are coming."""
    at_work(fleet)
    fleet.submit(tasks // 2)
    with fleet.submitting(tasks - tasks // 2):
        yield


def restart(valkey: Valkey) -> None:
    valkey.child.stop()
    valkey.child.start()
    valkey.wait_ready()


def flush(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()


def test_a_flush_of_redis_loses_nothing(
    new_fleet: NewFleet, report: Report, servers: tuple[Postgres, Valkey]
) -> None:
    fleet = new_fleet()
    with under_load(fleet, TASKS):
        flush(servers[1])
    flush(servers[1])

    report(f"{TASKS} tasks, 2 flushes", fleet.all_ended(within=300))


def test_a_restart_of_redis_loses_nothing(
    new_fleet: NewFleet, report: Report, servers: tuple[Postgres, Valkey]
) -> None:
    fleet = new_fleet()
    with under_load(fleet, TASKS):
        restart(servers[1])

    report(f"{TASKS} tasks, 1 restart", fleet.all_ended(within=300))


def test_a_redis_that_hangs_holds_up_no_submit_for_good(
    new_fleet: NewFleet, report: Report, redis_proxy: FaultProxy
) -> None:
    fleet = new_fleet(redis_url=through(redis_proxy))
    with under_load(fleet, TASKS), redis_proxy.hanging():
        before = len(fleet.accepted)
        eventually(lambda: len(fleet.accepted) > before + 5, within=60, what="submits go on")

    report(f"{TASKS} tasks, 1 hang", fleet.all_ended(within=300))


def test_lost_replies_of_redis_lose_nothing(
    new_fleet: NewFleet, report: Report, redis_proxy: FaultProxy
) -> None:
    fleet = new_fleet(redis_url=through(redis_proxy))
    with under_load(fleet, TASKS):
        redis_proxy.lose_replies(10)
        eventually(lambda: redis_proxy.still_to_lose == 0, within=120, what="the replies are lost")
        redis_proxy.cut()

    report(f"{TASKS} tasks, 10 replies, 1 cut", fleet.all_ended(within=300))


@pytest.mark.skipif(not SOAK, reason="faults at random belong to the soak: SOAK=0..1 make soak")
def test_a_redis_that_breaks_at_random_is_recovered_from_each_time(
    new_fleet: NewFleet, report: Report, redis_proxy: FaultProxy, servers: tuple[Postgres, Valkey]
) -> None:
    fleet, rng, faults = new_fleet(redis_url=through(redis_proxy)), Random(5), 0
    at_work(fleet)
    over = Deadline.after(30 * 60 * SOAK, SystemClock())

    def hang() -> None:
        with redis_proxy.hanging():
            fleet.submit(5)

    kinds: list[Callable[[], None]] = [
        lambda: flush(servers[1]),
        lambda: restart(servers[1]),
        lambda: redis_proxy.lose_replies(rng.randint(1, 10)),
        redis_proxy.cut,
        hang,
    ]
    while not over.expired:
        with fleet.submitting(rng.randint(1, 100)):
            for breaks in rng.sample(kinds, rng.randint(1, 3)):
                breaks()
                faults += 1
        eventually(lambda: fleet.open_tasks() < 50, within=300, what="the fleet has caught up")

    audit = fleet.all_ended(within=300)
    report(f"{audit.accepted} tasks, {faults} faults", audit)


def test_a_celery_worker_goes_on_after_an_acknowledgement_was_lost(
    new_fleet: NewFleet, report: Report, redis_proxy: FaultProxy
) -> None:
    fleet = new_fleet(redis_url=through(redis_proxy))
    fleet.facade()
    fleet.celery("celery-1")
    fleet.wait_ready()

    redis_proxy.lose_reply_to(b"HDEL")
    fleet.submit(1)
    eventually(lambda: redis_proxy.still_to_lose == 0, within=60, what="the acknowledgement is lost")
    fleet.submit(5)

    report("6 tasks, 1 reply", fleet.all_ended(within=30))


def test_a_worker_whose_redis_is_away_ends_when_it_is_told_to(
    new_fleet: NewFleet, redis_proxy: FaultProxy
) -> None:
    fleet = new_fleet(redis_url=through(redis_proxy))
    fleet.celery("celery-1")
    fleet.wait_ready()

    redis_proxy.close()
    eventually(
        lambda: "Connection to broker lost" in fleet.log("celery-1"), within=60, what="the worker notices"
    )

    assert fleet.stop("celery-1") == 0, "it had to be killed"


def test_immediate_restarts_of_postgres_lose_nothing(
    new_fleet: NewFleet, report: Report, servers: tuple[Postgres, Valkey]
) -> None:
    restarts, tasks = scaled(3, 100), TASKS * 2
    fleet = new_fleet()
    with under_load(fleet, tasks):
        for number in range(restarts):
            due = (number + 1) * tasks // (restarts + 2)
            eventually(
                lambda due=due: len(fleet.accepted) >= due, within=200, what=f"{due} tasks are accepted"
            )
            # SIGQUIT: no checkpoint, no good-bye; the log is replayed at the start.
            os.kill(servers[0].child.pid, signal.SIGQUIT)
            servers[0].child.wait(60)
            servers[0].child.start()
            servers[0].wait_ready()

    report(f"{tasks} tasks, {restarts} restarts", fleet.all_ended(within=300))


def test_lost_replies_of_postgres_lose_nothing_and_double_nothing(
    new_fleet: NewFleet, report: Report, database_proxy: FaultProxy
) -> None:
    losses = scaled(3, 100) * 10
    fleet = new_fleet(database_url=through(database_proxy))
    with under_load(fleet, TASKS):
        for _ in range(losses):
            database_proxy.lose_replies(1)
            eventually(lambda: database_proxy.still_to_lose == 0, within=60, what="a reply is lost")

    report(f"{TASKS} tasks, {losses} replies", fleet.all_ended(within=300))
