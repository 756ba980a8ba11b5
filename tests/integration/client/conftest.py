"""The facade on a port of this machine, with the fakes of all providers behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from celery import Celery
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.client.sync import Client
from gifty_compute.core import Core, build
from gifty_compute.queue.broker import broker_url
from gifty_compute.settings import Settings
from tests.fakes.server import FakeProviders
from tests.integration.providers.conftest import environ_of

LOGIC = """
llm:
  default_provider: groq
  fallbacks: [anthropic]
  embedding_provider: intelligence_api
  model_fast: claude-x
classify: {internal_categories: [{id: 7, name: Рыбалка}]}
"""


@pytest.fixture
def fake() -> Iterator[FakeProviders]:
    with FakeProviders() as server:
        yield server


@pytest.fixture
def core(settings: Settings, fake: FakeProviders, tmp_path: Path) -> Iterator[Core]:
    (tmp_path / "logic.yaml").write_text(LOGIC, encoding="utf-8")
    mine = settings.model_copy(update={"logic_config_path": tmp_path / "logic.yaml"})
    celery = Celery("test", broker=broker_url(settings.redis_url.get_secret_value()), set_as_current=False)
    built = build(mine, celery, environ=environ_of(fake), rng=Random(3))
    yield built
    built.close()
    celery.close()


@pytest.fixture
def service(core: Core) -> Iterator[str]:
    """The address of a facade."""
    server = make_server("127.0.0.1", 0, create_app(core), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    with Client(service, "api-token", timeout=20) as made:
        yield made
