"""The Redis of the cache: the broker's, or one of its own; asked once, never waited for."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from api import create_app
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API

MakeCore = Callable[..., Core]
LOGIC = "{llm: {embedding_provider: intelligence_api}, routing: {cache: {}}}"
TEXTS = {"input": ["чайник", "мяч"]}


@pytest.fixture
def broker(valkey: Valkey) -> redis.Redis:
    client = redis.Redis.from_url(valkey.url)
    client.flushall()
    return client


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "own")
    server.start()
    yield server
    server.stop()


def kept(client: redis.Redis) -> int:
    """Vectors that lie there."""
    return len(client.keys("gifty:value:*"))


def asked_twice(core: Core) -> list[str]:
    """What the same request says of the cache at its first and its second time."""
    client = create_app(core).test_client()
    answers = [client.post("/v1/embeddings", json=TEXTS, headers=API) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    return [answer.headers["X-Gifty-Cache"] for answer in answers]


def test_vectors_lie_in_the_brokers_redis_where_no_other_is_named(
    core_with: MakeCore, broker: redis.Redis
) -> None:
    said = asked_twice(core_with(LOGIC))

    assert said == ["miss", "hit"]
    assert kept(broker) == 2


def test_a_redis_for_the_cache_alone_keeps_the_brokers_free(
    core_with: MakeCore, broker: redis.Redis, own: Valkey
) -> None:
    said = asked_twice(core_with(LOGIC, cache_redis_url=own.url))

    assert said == ["miss", "hit"]
    assert kept(broker) == 0
    with redis.Redis.from_url(own.url) as client:
        assert kept(client) == 2


def test_a_redis_that_hangs_up_is_asked_once(core_with: MakeCore, fake: FakeProviders) -> None:
    connections: list[object] = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connections.append(self.client_address)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        said = asked_twice(core_with(LOGIC, cache_redis_url=f"redis://127.0.0.1:{server.server_address[1]}"))
        server.shutdown()
        thread.join(10)

    assert said == ["miss", "miss"]
    assert len(connections) == 1
    assert len(fake.calls("intelligence_api")) == 2
