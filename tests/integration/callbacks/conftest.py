"""Receivers of callbacks on sockets, and tasks that end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from celery import Celery
from flask.testing import FlaskClient
from sqlalchemy import text

from api import create_app
from gifty_compute.callbacks.addresses import is_public
from gifty_compute.callbacks.delivery import Delivery, Roads
from gifty_compute.callbacks.rendering import Rendering
from gifty_compute.callbacks.signing import Signer
from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.core import Core, build
from gifty_compute.queue.broker import broker_url
from gifty_compute.settings import Settings
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.wire.callback import Callback
from gifty_compute.wire.task import Holder, Task, Want
from tests.conftest import LOCAL_LOGIC
from tests.integration.conftest import API
from tests.integration.transport.conftest import Connection, RawServer

SECRET = "whsec_bmV3ZXN0IHNlY3JldCwgMjQgYnl0ZXMhIQ=="
OLDER = "whsec_b2xkZXIgc2VjcmV0LCBhbHNvIDI0IGJ5dGVz"
LOGIC = LOCAL_LOGIC.read_text(encoding="utf-8") + "\ncallbacks: {allow_hosts: [127.0.0.1]}\n"
HOLDER = Holder(worker_id="w", credential="c")
VECTOR = (np.arange(384, dtype=np.float32) + 1).reshape(1, 384)
CLOCK = SystemClock()


class Got:
    """One callback as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def got(server: RawServer) -> list[Got]:
    return [Got(raw) for raw in list(server.requests)]


def good(conn: Connection) -> None:
    if conn.request():
        conn.answer(status="204 No Content")


def answering(status: str, headers: str = "") -> Callable[[Connection], None]:
    def answer(conn: Connection) -> None:
        if conn.request():
            conn.answer(status=status, headers=headers)

    return answer


def until(reached: Callable[[], Any], seconds: float = 30) -> Any:
    """What this gives once it is true."""
    deadline, pause = Deadline.after(seconds, CLOCK), threading.Event()
    while not (value := reached()):
        assert not deadline.expired, "it has not come to that"
        pause.wait(0.01)
    return value


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "logic.yaml"
    file.write_text(LOGIC, encoding="utf-8")
    return Settings(**{**dict(settings), "logic_config_path": file, "callback_secret": f"{SECRET},{OLDER}"})


@pytest.fixture
def make_core(settings: Settings) -> Iterator[Callable[[], Core]]:
    """Makes one more process, as far as the database can tell."""
    celery = Celery("test", broker=broker_url(settings.redis_url.get_secret_value()), set_as_current=False)
    made: list[Core] = []

    def make() -> Core:
        made.append(build(settings, celery, rng=Random(len(made))))
        return made[-1]

    yield make
    for one in made:
        one.close()
    celery.close()


@pytest.fixture
def core(make_core: Callable[[], Core]) -> Core:
    return make_core()


@pytest.fixture
def client(core: Core) -> FlaskClient:
    return create_app(core).test_client()


@pytest.fixture
def submitted(client: FlaskClient) -> Callable[..., Task]:
    """Submits an embedding task with a callback."""

    def submit(url: str, *texts: str, **fields: Any) -> Task:
        body = {
            "task_type": "embedding",
            "payload": {"texts": list(texts) or ["чайник"]},
            "callback_url": url,
        }
        answer = client.post("/v1/tasks", json={**body, **fields}, headers=API)
        assert answer.status_code == 202, answer.json
        return Task.model_validate(answer.json)

    return submit


@pytest.fixture
def ended(core: Core, submitted: Callable[..., Task]) -> Callable[..., Task]:
    """Submits such a task and completes it."""

    def end(url: str, *texts: str, **fields: Any) -> Task:
        return complete(core, submitted(url, *texts, **fields))

    return end


def complete(core: Core, task: Task) -> Task:
    [claimed] = core.leases.claim(HOLDER, Want(ids=(task.id,))).tasks
    vectors = np.repeat(VECTOR, len(task.payload["texts"]), axis=0)
    return core.leases.complete(HOLDER, claimed, {"embeddings": vectors})


def delivery(core: Core, *, seconds: float = 20, roads: Roads | None = None) -> Delivery:
    """The real one, with a length of a try and roads of the test's own."""
    outbox, receivers = core.callbacks.outbox, core.callbacks.receivers
    rendering = Rendering(outbox, lambda batch_id: core.batches.stored(batch_id).model_dump())
    signer = Signer([SECRET, OLDER])
    roads = roads or Roads(public=CurlTransport(admits=is_public), named=CurlTransport())
    return Delivery(outbox, receivers, rendering, signer, roads, CLOCK, try_seconds=seconds)


def leased(core: Core) -> Callback:
    [callback] = core.callbacks.outbox.lease(limit=1)
    return callback


def stored(core: Core, callback_id: str | None = None) -> Callback:
    """The callback as it is now; the only one, if none is named."""
    found = core.callbacks.outbox.page(state="any", limit=100)
    [callback] = [one for one in found if callback_id in (None, one.id)]
    return callback


def sql(core: Core, statement: str, **parameters: Any) -> None:
    with core.database.connection() as connection:
        connection.execute(text(statement), parameters)


def leases_run_out(core: Core) -> None:
    """What is due later is due now."""
    sql(core, "UPDATE compute_callbacks SET due_at = now() WHERE due_at IS NOT NULL")


def a_day_passes(core: Core) -> None:
    sql(
        core,
        "UPDATE compute_callbacks SET begun_at = begun_at - interval '25 hours', due_at = now()"
        " WHERE due_at IS NOT NULL",
    )
