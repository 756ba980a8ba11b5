"""Valkey of our own: reachable by us alone."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.embedded.valkey import Valkey

IsRunning = Callable[[int], bool]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "Мои данные" / "the broker"


@pytest.fixture
def server(directory: Path) -> Iterator[Valkey]:
    server = Valkey(directory)
    server.start()
    yield server
    server.stop()


def test_url_serves_redis_py_below_a_path_with_spaces_and_cyrillic(server: Valkey) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "подарок")

        assert client.get("key") == "подарок".encode()


def test_full_server_refuses_and_evicts_nothing(server: Valkey) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_only_a_private_socket_leads_in(server: Valkey) -> None:
    socket = Path(urlsplit(server.url).path)

    assert psutil.Process(server.child.pid).net_connections(kind="inet") == []
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_password_is_required_and_on_no_command_line(server: Valkey, directory: Path) -> None:
    password = (directory / "password").read_text()
    process = psutil.Process(server.child.pid)

    assert password not in " ".join([*process.cmdline(), *process.parent().cmdline()])
    assert stat.S_IMODE((directory / "valkey.conf").stat().st_mode) == 0o600
    with (
        redis.Redis.from_url(server.url.replace(password, "wrong")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_stop_leaves_no_process_and_no_socket(directory: Path, is_running: IsRunning) -> None:
    server = Valkey(directory)
    server.start()
    pid, socket = server.child.pid, Path(urlsplit(server.url).path)

    server.stop()

    assert not is_running(pid)
    assert not socket.parent.exists()


def test_server_that_cannot_start_shows_its_log(directory: Path, tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho this machine is too old\nexit 3\n")
    program.chmod(0o700)

    with pytest.raises(EmbeddedError, match=r"(?s)Valkey ended with status 3;.*too old"):
        Valkey(directory, program=program).start()
