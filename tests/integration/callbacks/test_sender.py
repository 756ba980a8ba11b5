"""Senders: several processes, slow receivers beside quick ones, and death in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from gifty_compute.callbacks.metrics import CallbackMetrics
from gifty_compute.callbacks.sender import CallbackSender
from gifty_compute.core import Core
from gifty_compute.queue.sql import QUERIES
from gifty_compute.settings import Settings
from gifty_compute.wire.task import Task
from tests.conftest import ROOT
from tests.integration.callbacks.conftest import (
    CLOCK,
    SECRET,
    answering,
    delivery,
    good,
    got,
    leases_run_out,
    sql,
    stored,
    until,
)
from tests.integration.transport.conftest import Connection, RawServer

Ends = Callable[..., Task]


@pytest.fixture
def sender(core: Core) -> Iterator[CallbackSender]:
    """A sender that nobody has started; a try takes a second at most."""
    made = CallbackSender(
        core.callbacks.outbox,
        delivery(core, seconds=1),
        CLOCK,
        CallbackMetrics(CollectorRegistry()),
        period=0.05,
    )
    yield made
    made.stop()


def add(core: Core, url: str, count: int) -> None:
    """So many callbacks of one task that has ended, as if there were so many tasks."""
    sql(
        core,
        """
        WITH t AS (
            INSERT INTO compute_tasks (task_type, payload, status, completed_at)
            VALUES ('embedding', '{}', 'completed', now()) RETURNING id
        )
        INSERT INTO compute_callbacks (id, task_id, type, url)
        SELECT t.id || '.' || n || '.task.completed', t.id, 'task.completed', :url
        FROM t, generate_series(1, :count) AS n
        """,
        url=url,
        count=count,
    )


def undelivered(core: Core) -> int:
    return core.callbacks.outbox.counts().due


def test_two_processes_tell_each_receiver_once(make_core: Callable[[], Core], core: Core) -> None:
    other = make_core()
    with RawServer(good) as server:
        add(core, server.url, 200)

        core.callbacks.start()
        other.callbacks.start()
        until(lambda: not undelivered(core))

    ids = [one.id for one in got(server)]
    assert len(ids) == len(set(ids)) == 200


def test_a_receiver_that_hangs_does_not_hold_up_the_others(core: Core, sender: CallbackSender) -> None:
    def hang(conn: Connection) -> None:
        conn.request()
        conn.wait(60)

    with ExitStack() as stack:
        slow = stack.enter_context(RawServer(hang))
        quick = stack.enter_context(RawServer(good))
        add(core, slow.url, 500)
        add(core, quick.url, 50)

        sender.start()
        until(lambda: len(quick.requests) == 50)

        # Eight while nobody knew it to be slow, and after that one at a time.
        assert len(slow.requests) <= 8 + 50


def begun(sender: CallbackSender) -> int:
    """How many tries the sender begins before it has no place for another."""
    total = 0
    while taken := sender.send_due():
        total += taken
    return total


def test_to_one_receiver_no_more_than_eight_are_under_way(core: Core, sender: CallbackSender) -> None:
    def hold(conn: Connection) -> None:
        conn.request()
        conn.wait(60)

    with RawServer(hold) as server:
        add(core, server.url, 30)

        assert begun(sender) == 8
        assert begun(sender) == 0


def test_to_a_receiver_whose_last_try_failed_only_one_is(core: Core, sender: CallbackSender) -> None:
    held, go = threading.Event(), threading.Event()

    def refuse(conn: Connection) -> None:
        conn.request()
        if held.is_set():
            go.wait(20)
            conn.answer()
        else:
            conn.answer(status="500 No")

    with RawServer(refuse) as server:
        add(core, server.url, 30)
        sender.send_due()
        until(lambda: not sender._flying)
        held.set()

        assert begun(sender) == 1

        go.set()
        until(lambda: not sender._flying)
        assert begun(sender) > 1  # It took one, and is trusted again.


def test_many_receivers_share_the_places(core: Core, sender: CallbackSender) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(RawServer(good)) for _ in range(20)]
        for server in servers:
            add(core, server.url, 5)

        sender.start()
        until(lambda: not undelivered(core))

    assert [len(server.requests) for server in servers] == [5] * 20


def test_what_cannot_be_rendered_fails_like_any_other_and_the_rest_is_told(
    core: Core, sender: CallbackSender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with RawServer(good) as server:
        add(core, server.url, 2)
        sql(core, "UPDATE compute_callbacks SET type = 'broken' WHERE id LIKE '%.1.task.completed'")
        render = sender._delivery._rendering.render
        monkeypatch.setattr(
            sender._delivery._rendering,
            "render",
            lambda callback: 1 / 0 if callback.type == "broken" else render(callback),
        )

        sender.start()
        until(lambda: len(server.requests) == 1)
        until(lambda: [one for one in core.callbacks.outbox.page(state="due", limit=9) if one.error])

    [failed] = [one for one in core.callbacks.outbox.page(state="due", limit=9) if one.type == "broken"]
    assert failed.error == "a fault of ours; the log has it"
    assert "a fault of ours" in caplog.text


def test_a_removed_task_takes_its_callback_along(core: Core, sender: CallbackSender) -> None:
    with RawServer(good) as server:
        add(core, server.url, 1)
        [callback] = core.callbacks.outbox.lease(limit=1)
        sql(core, "DELETE FROM compute_tasks")

        assert delivery(core).deliver(callback) == "gone"

    assert server.connections == 0


FACADE = "import threading, api.wsgi; print('up', flush=True); threading.Event().wait()"


def test_killed_between_sending_and_noting_it_sends_again_under_the_same_id(
    core: Core, settings: Settings, ended: Ends, sender: CallbackSender
) -> None:
    """The receiver itself kills the facade, with SIGKILL, before it answers the first time."""
    facade: list[subprocess.Popen[str]] = []

    def kill_then_be_good(conn: Connection) -> None:
        conn.request()
        if facade:
            victim = facade.pop()
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait(30)
        conn.answer()

    with RawServer(kill_then_be_good) as server:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "LOGIC_CONFIG_PATH": str(settings.logic_config_path),
            "CALLBACK_SECRET": SECRET,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", FACADE], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            facade.append(process)
            task = ended(server.url)
            until(lambda: len(server.requests) == 1 and process.poll() is not None)
            process.stdout.close()

            assert stored(core).delivered_at is None
            leases_run_out(core)
            sender.start()
            until(lambda: stored(core).delivered_at)
        finally:
            process.kill()
            process.wait(30)

    assert [one.id for one in got(server)] == [f"{task.id}.1.task.completed"] * 2


def test_texts_of_callers_and_receivers_never_reach_logs_metrics_or_the_outbox(
    core: Core, submitted: Ends, ended: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "КАНАРЕЙКА-d41d8cd9"
    caplog.set_level(0)
    with RawServer(answering(f"500 {canary.encode().hex()}", f"X: {canary.encode().hex()}\r\n")) as server:
        ended(f"{server.url}/?key=SECRET-d41d8cd9", canary, metadata={"note": canary})
        core.callbacks.start()
        until(lambda: stored(core).error)
        core.callbacks.close()

    assert canary in server.requests[0].decode()
    seen = caplog.text + generate_latest(core.high.registry).decode() + str(stored(core).error)
    assert "gifty_callback_tries_total" in seen
    assert stored(core).id in caplog.text
    for secret in (canary, "SECRET-d41d8cd9", canary.encode().hex(), SECRET, "whsec_"):
        assert secret not in seen


def test_a_lease_reads_a_few_pages_however_many_callbacks_a_receiver_has(core: Core) -> None:
    add(core, "http://127.0.0.1:1/", 20_000)
    sql(core, "UPDATE compute_callbacks SET due_at = now() + interval '1 hour'")
    add(core, "http://127.0.0.1:2/", 20_000)
    add(core, "http://127.0.0.1:3/", 10)
    sql(core, "ANALYZE compute_callbacks")
    core.callbacks.outbox.lease(limit=9)

    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + QUERIES["lease_callbacks"].text
    with core.database.connection() as connection:
        parameters = {"limit": 16, "busy": [], "dice": "7", "lease_seconds": 60}
        [plan] = connection.execute(text(statement), parameters).scalar_one()

    assert plan["Plan"]["Actual Rows"] == 2
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100
