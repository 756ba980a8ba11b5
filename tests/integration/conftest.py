"""The facade in process, over real PostgreSQL, real Valkey and the real packaged model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from celery import Celery
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.core import Core, build
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.broker import broker_url
from gifty_compute.settings import Settings
from tests.conftest import LOCAL_LOGIC
from tests.fakes.server import FakeProviders

API = {"Authorization": "Bearer api-token"}
WORKER = {"X-Internal-Token": "internal-token"}
OPS = {"Authorization": "Bearer ops-token"}


@pytest.fixture
def settings(database_url: str, valkey: Valkey) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=valkey.url,
        api_tokens="backend:api-token,jobs:jobs-token",
        internal_api_token="internal-token",
        ops_tokens="anna:operator:ops-token,boris:viewer:viewer-token",
        logic_config_path=LOCAL_LOGIC,
        max_body_bytes=1_000_000,
        max_batch_bytes=5_000_000,
    )


@pytest.fixture
def core(settings: Settings) -> Iterator[Core]:
    celery = Celery("test", broker=broker_url(settings.redis_url.get_secret_value()), set_as_current=False)
    built = build(settings, celery, rng=Random(3))
    yield built
    built.close()
    celery.close()


@pytest.fixture
def fake() -> Iterator[FakeProviders]:
    """All providers, healthy until told otherwise."""
    with FakeProviders() as server:
        yield server


@pytest.fixture
def core_with(settings: Settings, fake: FakeProviders, tmp_path: Path) -> Iterator[Callable[..., Core]]:
    """Makes a core by this text of logic.yaml, with the fakes of these providers, or of all, behind it."""
    url = settings.redis_url.get_secret_value()
    celery = Celery("test", broker=broker_url(url), set_as_current=False)
    made: list[Core] = []

    def make(logic: str = "llm: {}", *providers: str, **more: Any) -> Core:
        file = tmp_path / "logic.yaml"
        file.write_text(logic, encoding="utf-8")
        mine = Settings(**{**dict(settings), "logic_config_path": file, **more})
        made.append(build(mine, celery, environ=fake.environ(*providers), rng=Random(3)))
        return made[-1]

    yield make
    for core in made:
        core.close()
    celery.close()


@pytest.fixture
def client(core: Core) -> FlaskClient:
    return create_app(core).test_client()


@pytest.fixture
def facade_url(core: Core) -> Iterator[str]:
    """The facade on a socket."""
    server = make_server("127.0.0.1", 0, create_app(core), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def submit(client: FlaskClient) -> Any:
    """Submits an embedding task over HTTP and gives it as JSON."""

    def submit(*texts: str, **fields: Any) -> Any:
        body = {"task_type": "embedding", "payload": {"texts": list(texts) or ["чайник"]}, **fields}
        answer = client.post("/v1/tasks", json=body, headers=API)
        assert answer.status_code == 202, answer.json
        return answer.json

    return submit
