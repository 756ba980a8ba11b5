"""The facade in process, whose fleet gives up a silent worker soon, and a real Flower beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests
from celery import Celery
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from api import create_app
from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.fleet.fleet import Fleet
from gifty_compute.fleet.herald import Herald
from gifty_compute.fleet.roster import Roster
from gifty_compute.queue.broker import broker_url
from gifty_compute.stack.ports import choose_addresses
from tests.conftest import LOCAL_LOGIC, ROOT
from tests.e2e.service import eventually

SILENCE = 3.0
AUTH = ("ann", "a-password-of-the-test")


@dataclass(frozen=True)
class Flower:
    """Its address; each of its views as JSON."""

    url: str

    def get(self, path: str) -> Any:
        answer = requests.get(self.url + path, auth=AUTH, timeout=20)
        return answer.json() if answer.ok else None

    def page(self, path: str) -> str:
        return requests.get(self.url + path, auth=AUTH, timeout=20).text

    def is_online(self, node: str) -> bool | None:
        return self.get("/api/workers?status=1").get(node)

    def row(self, node: str) -> Any:
        rows = self.get("/workers?json=1")["data"]
        return next((row for row in rows if row["hostname"] == node), None)


@pytest.fixture(scope="module")
def flower(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    port = choose_addresses(0).flower_port
    log = (tmp_path_factory.mktemp("flower") / "log").open("wb")
    environ = {"REDIS_URL": valkey.url, "FLOWER_BASIC_AUTH": ":".join(AUTH)}
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "workers", "flower", "--address=127.0.0.1", f"--port={port}"],
        cwd=ROOT,
        env={**os.environ, **environ, "LOGIC_CONFIG_PATH": str(LOCAL_LOGIC)},
        stdout=log,
        stderr=log,
    )
    flower = Flower(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: _answers(flower.url), within=60, what="Flower answers")
        yield flower
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthcheck", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture
def new_fleet(valkey: Valkey) -> Iterator[Callable[..., Fleet]]:
    """A fleet as each facade process has one, started."""
    made: list[tuple[Fleet, Celery]] = []

    def new(url: str = valkey.url, silence: float = SILENCE) -> Fleet:
        app, clock, roster = (
            Celery("fleet", broker=broker_url(url), set_as_current=False),
            SystemClock(),
            Roster(silence),
        )
        app.conf.broker_transport_options = {
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "max_retries": 1,
        }
        fleet = Fleet(roster, Herald(app, roster, clock, silence, CollectorRegistry()), clock)
        fleet.start()
        made.append((fleet, app))
        return fleet

    yield new
    for fleet, app in made:
        fleet.stop()
        app.close()


@pytest.fixture
def client(core: Core, new_fleet: Callable[..., Fleet]) -> FlaskClient:
    return create_app(replace(core, fleet=new_fleet())).test_client()
