"""Values in a real Valkey, and the cache over it; one that stops or hangs costs a moment and nothing else."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.logic.source import parse_logic
from gifty_compute.routing.cache import Cache
from gifty_compute.routing.call import Call
from gifty_compute.shared.values import RedisValues
from tests.unit.conftest import HandClock
from tests.unit.routing.conftest import embedded, embedding_payload, vector_of

TIMEOUT = 0.05

Connect = Callable[[str], redis.Redis]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients = []

    def make(url: str) -> redis.Redis:
        client = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(valkey: Valkey, connect: Connect) -> redis.Redis:
    """Patient, and of an empty server."""
    client = redis.Redis.from_url(valkey.url)
    client.flushall()
    client.config_resetstat()
    return client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Valkey]:
    """One that a test may stop."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


class Mute:
    """A server that takes connections and says nothing."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    @property
    def connections(self) -> int:
        return len(self._taken)

    def _take(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            self._taken.append(connection)
            if connection.recv(1, socket.MSG_PEEK) == b"!":
                return

    def close(self) -> None:
        with socket.create_connection(self._listening.getsockname()) as last:
            last.sendall(b"!")
            self._thread.join(10)
        for connection in [*self._taken, self._listening]:
            connection.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    server = Mute()
    yield server
    server.close()


def test_what_one_process_puts_another_gets_in_the_order_of_its_keys(
    client: redis.Redis, valkey: Valkey, clock: HandClock
) -> None:
    RedisValues(client, clock).put({"a": b"\x00\xff", "b": "чай".encode()}, 60)

    with redis.Redis.from_url(valkey.url) as other:
        assert RedisValues(other, clock).get(["b", "x", "a"]) == ["чай".encode(), None, b"\x00\xff"]


def test_values_end_with_their_time(client: redis.Redis, clock: HandClock) -> None:
    values = RedisValues(client, clock)

    values.put({"long": b"1"}, 60)
    values.put({"short": b"1"}, 0.0001)

    assert 59_000 < client.pttl("gifty:value:long") <= 60_000
    deadline = Deadline.after(10, SystemClock())
    while values.get(["short"]) != [None]:
        assert not deadline.expired


def test_many_values_are_one_command_to_get_and_no_transaction_to_put(
    client: redis.Redis, clock: HandClock
) -> None:
    values = RedisValues(client, clock)
    keys = [f"key {number}" for number in range(300)]

    values.put(dict.fromkeys(keys, b"value"), 60)
    assert values.get(keys) == [b"value"] * 300

    said: dict[str, Any] = client.info("commandstats")
    assert said["cmdstat_mget"]["calls"] == 1
    assert "cmdstat_multi" not in said


def test_a_server_that_stops_is_logged_once_and_used_again_when_it_is_back(
    own_server: Valkey, connect: Connect, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    values = RedisValues(connect(own_server.url), clock)
    values.put({"a": b"1"}, 60)
    assert values.get(["a"]) == [b"1"]
    own_server.child.stop()

    for _ in range(3):
        assert values.get(["a", "b"]) == [None, None]
        values.put({"a": b"2"}, 60)
        clock.advance(5)

    assert [record.message.split(":")[0] for record in caplog.records] == ["values in Redis are left alone"]
    own_server.child.start()
    own_server.wait_ready()
    assert values.get(["a"]) == [None]
    values.put({"a": b"3"}, 60)
    assert values.get(["a"]) == [b"3"]


def test_a_server_that_hangs_is_asked_once_and_left_alone_for_five_seconds(
    mute: Mute, connect: Connect, clock: HandClock
) -> None:
    values = RedisValues(connect(mute.url), clock)
    time = SystemClock()
    began = time.monotonic()

    for _ in range(1000):
        assert values.get(["a"]) == [None]
        values.put({"a": b"1"}, 60)
    clock.advance(4.9)
    values.get(["a"])

    # Once the timeout of 0.05 s, and a busy machine's share; a thousand times it would be 100 s.
    assert time.monotonic() - began < 5
    assert mute.connections == 1


def test_after_the_rest_one_caller_tries_for_all(mute: Mute, connect: Connect, clock: HandClock) -> None:
    values = RedisValues(connect(mute.url), clock)
    values.get(["a"])
    clock.advance(5)
    together = threading.Barrier(16)

    def get(_: int) -> list[bytes | None]:
        together.wait(10)
        return values.get(["a"])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(get, range(16), timeout=30)) == [[None]] * 16

    assert mute.connections == 2


def test_a_full_server_takes_nothing_and_harms_nobody(
    own_server: Valkey, connect: Connect, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(own_server.url)
    client.config_set("maxmemory", 1)
    values = RedisValues(client, clock)

    values.put({"canary-key": b"canary-value"}, 60)

    assert "OutOfMemoryError" in caplog.text
    assert "canary" not in caplog.text
    client.config_set("maxmemory", 0)
    clock.advance(5)
    values.put({"canary-key": b"canary-value"}, 60)
    assert values.get(["canary-key"]) == [b"canary-value"]


def test_nothing_is_logged_while_all_is_well(
    client: redis.Redis, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    values = RedisValues(client, clock)

    values.put({"a": b"1"}, 60)
    values.get(["a"])

    assert caplog.records == []


def test_the_cache_of_one_process_serves_another_and_holds_no_text(
    client: redis.Redis, valkey: Valkey, connect: Connect
) -> None:
    logic = parse_logic("routing: {cache: {ttl_seconds: 60}}")
    payload = embedding_payload("canary-чай", "мёд")
    deadline = Deadline.after(10, SystemClock())
    call = Call(logic, "embedding", logic.model("embedding", None), payload, deadline)
    Cache(RedisValues(client, SystemClock())).run(call, embedded)

    def nobody(_: Call) -> Any:
        raise AssertionError("asked again")

    with redis.Redis.from_url(valkey.url) as other:
        answer = Cache(RedisValues(other, SystemClock())).run(call, nobody)

    assert (answer.provider, answer.cached) == ("runpod", True)
    assert [list(row) for row in answer.result["embeddings"]] == [
        list(vector_of(text)) for text in payload["texts"]
    ]
    kept = [key + (client.get(key) or b"") for key in client.scan_iter()]
    assert len(kept) == 2
    assert not any(b"canary" in one for one in kept)
