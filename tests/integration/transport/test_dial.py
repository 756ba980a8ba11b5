"""Until a connection stands: names that nobody answers for, addresses where nobody is, handshakes that drip.

Names and addresses are urllib3's transport's affair; pycurl sees to both by itself, and cannot be scripted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest, HttpResponse, Transport
from gifty_compute.transport.dial import Dialer
from gifty_compute.transport.pooled import PooledTransport
from tests.integration.transport.conftest import Connection, RawServer

CLOCK = SystemClock()
LONG, SHORT = 20.0, 0.3
NAME = "provider.test"


def infos(*addresses: tuple[str, int]) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]


def get(dialer: Dialer, port: int = 80, seconds: float = LONG) -> HttpResponse:
    transport = PooledTransport(dialer=dialer)
    try:
        request = HttpRequest("GET", f"http://{NAME}:{port}/x", {})
        return transport.send(request, Deadline.after(seconds, CLOCK))
    finally:
        transport.close()


def healthy(conn: Connection) -> None:
    conn.request()
    conn.answer()


@pytest.fixture
def deaf() -> Iterator[tuple[str, int]]:
    """An address that answers no call: those that nobody takes fill its line."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()


def test_a_name_that_nobody_answers_for_is_left_at_the_deadline() -> None:
    asked, over = [], threading.Event()

    def silent(host: str, port: int) -> list[Any]:
        asked.append((host, port))
        over.wait(LONG)
        return []

    dialer = Dialer(silent)
    began = CLOCK.monotonic()
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            get(dialer, seconds=SHORT)
        assert (caught.value.code, caught.value.sent) == ("timeout", False)

    assert CLOCK.monotonic() - began < LONG / 2
    assert asked == [(NAME, 80)]  # the second one waited for the answer to the first one's question
    over.set()


def test_an_answer_for_a_name_is_not_kept() -> None:
    asked = []

    with RawServer(healthy) as server:

        def found(host: str, port: int) -> list[Any]:
            asked.append(host)
            return infos(("127.0.0.1", server.port))

        dialer = Dialer(found)
        answers = [get(dialer), get(dialer)]

    assert [answer.status for answer in answers] == [200, 200]
    assert asked == [NAME, NAME]


def test_an_address_where_nobody_is_leaves_time_for_the_next(deaf: tuple[str, int]) -> None:
    with RawServer(healthy) as server:
        answer = get(Dialer(lambda *_: infos(deaf, ("127.0.0.1", server.port))), seconds=2)

    assert answer.status == 200


def test_many_addresses_where_nobody_is_take_no_longer_than_one(deaf: tuple[str, int]) -> None:
    deadline = Deadline.after(SHORT, CLOCK)

    with pytest.raises(TransportError) as caught:
        get(Dialer(lambda *_: infos(*[deaf] * 200)), seconds=SHORT)

    assert (caught.value.code, caught.value.sent) == ("timeout", False)
    assert CLOCK.monotonic() - deadline.at < LONG / 2


def test_an_address_that_refuses_is_passed_over() -> None:
    with RawServer(healthy) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = get(Dialer(lambda *_: infos(closed.getsockname(), ("127.0.0.1", server.port))))

    assert answer.status == 200


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label")])
def test_a_name_that_there_is_not_is_said_at_once(error: Exception) -> None:
    def missing(host: str, port: int) -> list[Any]:
        raise error

    with pytest.raises(TransportError) as caught:
        get(Dialer(missing))

    assert (caught.value.code, caught.value.sent) == ("connect_failed", False)


def test_what_the_system_gives_up_is_a_timeout_before_the_deadline_too() -> None:
    def slow(host: str, port: int) -> list[Any]:
        raise TimeoutError(110, "Connection timed out")

    with pytest.raises(TransportError) as caught:
        get(Dialer(slow))

    assert (caught.value.code, caught.value.sent) == ("timeout", False)


def test_a_name_without_an_address_cannot_be_reached() -> None:
    with pytest.raises(TransportError) as caught:
        get(Dialer(lambda *_: []))

    assert caught.value.code == "connect_failed"


def test_a_handshake_that_drips_is_left_at_the_deadline(make: Callable[..., Transport]) -> None:
    def drip(conn: Connection) -> None:
        conn.send(b"\x16\x03\x03\x40\x00")  # a record of 16 KB, of which a byte comes now and then
        while not conn.wait(0.05):
            conn.send(b"\x02")

    with RawServer(drip) as server:
        deadline = Deadline.after(SHORT, CLOCK)
        request = HttpRequest("GET", server.url.replace("http://", "https://"), {})
        with pytest.raises(TransportError) as caught:
            make().send(request, deadline)

        assert CLOCK.monotonic() - deadline.at < LONG / 2
    assert (caught.value.code, caught.value.sent) == ("timeout", False)
