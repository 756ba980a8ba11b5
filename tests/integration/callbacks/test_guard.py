"""The last gate: whatever URL gets that far, no connection to this machine or its network is begun."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from gifty_compute.callbacks.addresses import is_public
from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest
from gifty_compute.transport.curl import CurlTransport

# Spelled as an attacker would, and past the judgement of the URL, which refuses most of them before.
HERE = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.255.255.254:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://localhost:{port}/",
    "http://localhost.:{port}/",
    "http://LOCALHOST:{port}/",
    "http://a.localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://shop.example@127.0.0.1:{port}/",
    "http://shop.example:80@127.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@shop.example/",
    "http://127.0.0.1:{port}?@shop.example/",
    "http:/127.0.0.1:{port}/",
]
THERE = [
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://2852039166/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://[fe80::1%25lo]/",
    "http://[fd00:ec2::254]/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]
OTHER_PROTOCOLS = [
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "dict://127.0.0.1:{port}/x",
    "smtp://127.0.0.1:{port}/",
    "scp://127.0.0.1:{port}/x",
    "telnet://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "mqtt://127.0.0.1:{port}/",
]


class Trap:
    """Listens on this machine, on both kinds of addresses and one port, and counts who comes."""

    def __init__(self) -> None:
        self.caught = 0
        self._sockets = [socket.create_server(("0.0.0.0", 0))]
        self.port = self._sockets[0].getsockname()[1]
        if socket.has_ipv6:
            try:
                self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
            except OSError as error:
                print(f"without IPv6: {error}")
        self._threads = [
            threading.Thread(target=self._wait, args=(one,), daemon=True) for one in self._sockets
        ]

    def _wait(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            self.caught += 1
            accepted.close()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    made = Trap()
    made.start()
    yield made
    made.stop()


def post(url: str, transport: CurlTransport) -> None:
    deadline = Deadline.after(20, SystemClock())
    with transport.stream(HttpRequest("POST", url, {}, b"x"), deadline):
        pass


@pytest.mark.parametrize("url", [*HERE, *THERE, *OTHER_PROTOCOLS])
def test_nothing_here_is_dialled(trap: Trap, url: str) -> None:
    before = trap.caught

    with pytest.raises(TransportError) as refused:
        post(url.format(port=trap.port), CurlTransport(admits=is_public))

    assert trap.caught == before
    assert not refused.value.sent


def test_the_trap_catches_those_that_are_not_guarded(trap: Trap) -> None:
    before = trap.caught

    for url in ("http://127.1:{port}/", "http://localhost.:{port}/", "http://[::ffff:127.0.0.1]:{port}/"):
        with pytest.raises(TransportError):
            post(url.format(port=trap.port), CurlTransport())

    assert trap.caught >= before + 3
