"""What the providers' side of the wire can do to us, met by both transports."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from gifty_compute.clock import Deadline, SilenceDeadline, SystemClock
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest, Transport
from tests.e2e.service import eventually
from tests.fakes.proxies import HttpProxy
from tests.integration.transport.conftest import Connection, RawServer, Script

CLOCK = SystemClock()
# Of a test whose server answers, and of one whose server does not. Long against this machine's pauses.
LONG, SHORT = 20.0, 0.3


def within(seconds: float = LONG) -> Deadline:
    return Deadline.after(seconds, CLOCK)


def healthy(conn: Connection) -> None:
    while conn.request():
        conn.answer(b'{"a": 1}', headers="X-Name: one\r\nX-Other:  two \r\n")


# -- a healthy server ----------------------------------------------------------------------------------------


def test_an_exchange(transport: Transport) -> None:
    with RawServer(healthy) as server:
        body = "тело".encode()
        response = transport.send(
            HttpRequest("POST", server.url + "/p?q=1", {"x-key": "k", "content-type": "text/x"}, body),
            within(),
        )

    assert (response.status, response.body) == (200, b'{"a": 1}')
    assert (response.headers["x-name"], response.headers["x-other"]) == ("one", "two")
    [sent] = server.requests
    head, _, got = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /p?q=1 HTTP/1.1\r\n")
    assert got == body
    assert b"\r\nx-key: k" in head
    assert b"expect" not in head.lower()


def test_connections_are_kept_alive_and_one_is_enough_for_one_caller(transport: Transport) -> None:
    with RawServer(healthy) as server:
        for _ in range(20):
            transport.send(server.get(), within())

        assert (len(server.requests), server.connections) == (20, 1)


def test_a_get_after_a_post_on_the_same_connection_is_a_get(transport: Transport) -> None:
    with RawServer(healthy) as server:
        transport.send(HttpRequest("POST", server.url + "/a", {}, b"body"), within())
        transport.send(server.get("/b"), within())
        transport.send(HttpRequest("DELETE", server.url + "/c", {}), within())

    assert [sent.split(b" ", 1)[0] for sent in server.requests] == [b"POST", b"GET", b"DELETE"]
    assert b"content-length" not in server.requests[1].lower()
    assert server.connections == 1


def test_an_idle_connection_keeps_nothing_of_what_went_over_it(transport: Transport) -> None:
    def large(conn: Connection) -> None:
        while conn.request():
            conn.answer(bytes(2_000_000))

    with RawServer(large) as server:
        request = server.get(max_bytes=3_000_000)
        transport.send(request, within())  # what is made once is made by now
        tracemalloc.start()
        post = HttpRequest("POST", server.url + "/x", {}, bytes(2_000_000), max_bytes=3_000_000)
        assert len(transport.send(post, within()).body) == 2_000_000
        del post
        server.requests.clear()
        # The server's own thread may still hold the answer for a moment.
        eventually(
            lambda: tracemalloc.get_traced_memory()[0] < 1_000_000, within=10, what="the bodies are let go"
        )
        tracemalloc.stop()


def test_callers_at_once_do_not_wait_for_each_other(transport: Transport) -> None:
    together = threading.Barrier(8)

    def meet(conn: Connection) -> None:
        while conn.request():
            together.wait(LONG)
            conn.answer()

    with RawServer(meet) as server:
        threads = [threading.Thread(target=transport.send, args=(server.get(), within())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

        assert len(server.requests) == 8


def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced(transport: Transport) -> None:
    closed = threading.Event()

    def once(conn: Connection) -> None:
        conn.request()
        conn.answer()
        # At once: a socket that a file still reads is only closed with that file.
        conn.socket.shutdown(socket.SHUT_RDWR)
        conn.socket.close()
        closed.set()

    with RawServer(once) as server:
        for _ in range(3):
            closed.clear()
            assert transport.send(server.get(), within()).status == 200
            assert closed.wait(LONG)

    assert server.connections == 3


def test_a_status_is_an_answer_and_a_redirect_is_not_followed(transport: Transport) -> None:
    def away(conn: Connection) -> None:
        while conn.request():
            conn.answer(b"", status="302 Found", headers="Location: http://127.0.0.1:1/\r\n")

    with RawServer(away) as server:
        response = transport.send(server.get(), within())

    assert (response.status, len(server.requests)) == (302, 1)


def test_an_interim_answer_is_passed_over(transport: Transport) -> None:
    def early(conn: Connection) -> None:
        while conn.request():
            conn.send(b"HTTP/1.1 100 Continue\r\nX-Name: early\r\n\r\n")
            conn.answer(b"late")

    with RawServer(early) as server:
        response = transport.send(server.get(), within())

    assert (response.status, response.body, response.headers.get("x-name")) == (200, b"late", None)


def test_gzip_is_undone(transport: Transport) -> None:
    def zipped(conn: Connection) -> None:
        while conn.request():
            conn.answer(gzip.compress(b"text"), headers="Content-Encoding: gzip\r\n")

    with RawServer(zipped) as server:
        assert transport.send(server.get(), within()).body == b"text"


# -- servers that fail ---------------------------------------------------------------------------------------


def hang(conn: Connection) -> None:
    conn.request()
    conn.wait()


def hang_in_the_head(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    conn.wait()


def drip_the_head(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\n")
    while not conn.wait(0.02):
        conn.send(b"X-More: 1\r\n")


def hang_in_the_body(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    conn.wait()


def drip_the_body(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not conn.wait(0.02):
        conn.send(b" ")


def drip_chunks(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not conn.wait(0.02):
        conn.send(b"1\r\n \r\n")


def cut_the_body(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def cut_a_chunk(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf")


def reset(conn: Connection) -> None:
    conn.request()
    conn.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(conn: Connection) -> None:
    conn.request()


def speak_something_else(conn: Connection) -> None:
    conn.request()
    conn.send(b"220 mail.example ESMTP ready\r\n")


def bad_gzip(conn: Connection) -> None:
    conn.request()
    conn.answer(b"no gzip at all", headers="Content-Encoding: gzip\r\n")


def large(conn: Connection) -> None:
    conn.request()
    conn.answer(b"x" * 200_000)


def endless(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not conn.wait(0):
        conn.send(b"x" * 65_536)


def bomb(conn: Connection) -> None:
    conn.request()
    conn.answer(gzip.compress(b"x" * 5_000_000), headers="Content-Encoding: gzip\r\n")


LATE = [hang, hang_in_the_head, drip_the_head, hang_in_the_body, drip_the_body, drip_chunks]
LOST = [cut_the_body, cut_a_chunk, reset, close, speak_something_else, bad_gzip]
TOO_LARGE = [large, endless, bomb]


@pytest.mark.parametrize("script", LATE, ids=lambda script: script.__name__)
def test_who_is_late_is_left_at_the_deadline(transport: Transport, script: Script) -> None:
    left = threading.Event()

    def watched(conn: Connection) -> None:
        try:
            script(conn)
        except ConnectionError:
            left.set()

    with RawServer(watched) as server:
        deadline = within(SHORT)
        with pytest.raises(TransportError) as caught:
            transport.send(server.get(), deadline)

        assert (caught.value.code, caught.value.sent) == ("timeout", True)
        assert deadline.remaining < 0.01  # libcurl counts in milliseconds
        # Not its drops, which would go on for long, but the deadline has ended it.
        assert CLOCK.monotonic() - deadline.at < LONG / 2
        if "drip" in script.__name__:
            assert left.wait(LONG)


@pytest.mark.parametrize("script", LOST, ids=lambda script: script.__name__)
def test_half_an_answer_is_none(transport: Transport, script: Script) -> None:
    with RawServer(script) as server, pytest.raises(TransportError) as caught:
        transport.send(server.get(), within())

    assert (caught.value.code, caught.value.sent) == ("connection_lost", True)
    assert len(server.requests) == 1


@pytest.mark.parametrize("script", TOO_LARGE, ids=lambda script: script.__name__)
def test_an_answer_is_not_taken_beyond_its_cap(transport: Transport, script: Script) -> None:
    with RawServer(script) as server, pytest.raises(TransportError) as caught:
        transport.send(server.get(max_bytes=100_000), within())

    assert caught.value.code == "response_too_large"


def test_after_every_failure_the_next_exchange_is_sound(transport: Transport) -> None:
    """Nothing of an exchange that failed is left on a connection that another one uses."""
    scripts = [*LOST, hang_in_the_body, large]

    def broken_then_healthy(conn: Connection) -> None:
        if scripts:
            scripts.pop(0)(conn)
        else:
            healthy(conn)

    with RawServer(broken_then_healthy) as server:
        while scripts:
            with pytest.raises(TransportError):
                transport.send(server.get(max_bytes=100_000), within(SHORT))

        for _ in range(3):
            assert transport.send(server.get(), within()).body == b'{"a": 1}'


def test_nobody_listens(transport: Transport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/secret?key=1"
        with pytest.raises(TransportError) as caught:
            transport.send(HttpRequest("GET", url, {}), within())

    assert (caught.value.code, caught.value.sent) == ("connect_failed", False)
    assert "secret" not in str(caught.value)


def test_a_name_that_is_none(transport: Transport) -> None:
    with pytest.raises(TransportError) as caught:
        transport.send(HttpRequest("GET", "http://no-such-name.invalid/", {}), within())

    assert (caught.value.code, caught.value.sent) == ("connect_failed", False)


def test_without_time_nobody_is_asked(transport: Transport) -> None:
    with RawServer(healthy) as server:
        for ask in (transport.send, transport.stream):
            with pytest.raises(TransportError) as caught:
                ask(server.get(), within(0))
            assert (caught.value.code, caught.value.sent) == ("timeout", False)

        assert server.connections == 0


# -- proxies and TLS -----------------------------------------------------------------------------------------


def test_the_environment_does_not_choose_a_proxy(
    make: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with RawServer(healthy) as server:
        assert make().send(server.get(), within()).status == 200


def test_a_proxy_that_a_request_names_is_used_for_that_request_alone(transport: Transport) -> None:
    """F11: one transport serves all providers, of which some are behind a proxy."""
    with RawServer(healthy) as proxy, RawServer(healthy) as server:
        behind = HttpRequest("GET", "http://provider.invalid/x", {}, proxy=proxy.url)
        for _ in range(2):
            assert transport.send(behind, within()).status == 200
            assert transport.send(server.get(), within()).status == 200
        with transport.stream(behind, within()) as stream:
            assert b"".join(stream) == b'{"a": 1}'

    assert [sent.split(b"\r\n")[0] for sent in proxy.requests] == 3 * [
        b"GET http://provider.invalid/x HTTP/1.1"
    ]
    assert len(server.requests) == 2
    assert proxy.url not in repr(behind)


def test_no_proxy_of_the_environment_takes_a_host_from_the_proxy(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")

    with RawServer(healthy) as proxy:
        request = HttpRequest("GET", "http://provider.invalid/x", {}, proxy=proxy.url)
        assert transport.send(request, within()).status == 200


@pytest.mark.parametrize("refusal", [407, 502])
def test_a_proxy_that_opens_no_tunnel_is_told_from_the_host(transport: Transport, refusal: int) -> None:
    """F11: what a tunnel was to carry has not been sent."""
    with HttpProxy({}) as proxy:
        proxy.refusal = refusal
        request = HttpRequest("GET", "https://provider.invalid/x", {}, proxy=proxy.url)
        with pytest.raises(TransportError) as caught:
            transport.send(request, within())

    assert (caught.value.code, caught.value.sent) == ("proxy_refused", False)


def test_tls_goes_through_a_tunnel_of_the_proxy(
    make: Callable[..., Transport], authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with (
        RawServer(healthy, tls_of(authority, "provider.invalid")) as server,
        HttpProxy({"provider.invalid": server.port}) as proxy,
    ):
        request = HttpRequest("GET", "https://provider.invalid/x", {}, proxy=proxy.url)
        assert make(ca_file=str(ca)).send(request, within()).status == 200

    assert proxy.asked == ["provider.invalid"]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_a_certificate_of_a_trusted_authority_is_taken(
    make: Callable[..., Transport], authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    with RawServer(healthy, tls_of(authority, "127.0.0.1")) as server:
        transport = make(ca_file=str(ca))
        for _ in range(3):
            assert transport.send(server.get(), within()).body == b'{"a": 1}'

    assert server.connections == 1


@pytest.mark.parametrize("case", ["unknown authority", "another's name"])
def test_any_other_certificate_is_refused_before_a_word_is_said(
    make: Callable[..., Transport], authority: trustme.CA, tmp_path: Path, case: str
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    transport = make() if case == "unknown authority" else make(ca_file=str(ca))
    name = "127.0.0.1" if case == "unknown authority" else "provider.example"

    with RawServer(healthy, tls_of(authority, name)) as server:
        with pytest.raises(TransportError) as caught:
            transport.send(server.get(), within())

        assert (caught.value.code, caught.value.sent) == ("bad_certificate", False)
        assert server.requests == []


def test_a_handshake_that_hangs_is_left_at_the_deadline(make: Callable[..., Transport]) -> None:
    def silent(conn: Connection) -> None:
        conn.wait()

    with RawServer(silent) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(TransportError) as caught:
            make().send(HttpRequest("GET", url, {}), within(SHORT))

    assert (caught.value.code, caught.value.sent) == ("timeout", False)


# -- streams -------------------------------------------------------------------------------------------------


def test_pieces_are_there_as_they_come(transport: Transport) -> None:
    asked_on = threading.Event()

    def slowly(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Name: one\r\n\r\n5\r\nfirst\r\n")
        asked_on.wait(LONG)
        conn.send(b"4\r\nlast\r\n0\r\n\r\n")

    with RawServer(slowly) as server, transport.stream(server.get(), within()) as stream:
        assert (stream.status, stream.headers["x-name"]) == (200, "one")
        pieces = filter(None, stream)
        assert next(pieces) == b"first"
        asked_on.set()
        assert list(pieces) == [b"last"]


def test_leaving_a_stream_hangs_up(transport: Transport) -> None:
    left = threading.Event()

    def begin(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        if conn.is_left():
            left.set()

    with RawServer(begin) as server:
        with transport.stream(server.get(), within()) as stream:
            next(iter(stream))
        assert left.wait(LONG)


@pytest.mark.parametrize("script", [hang_in_the_body, drip_the_body, drip_chunks], ids=lambda s: s.__name__)
def test_a_stream_ends_at_its_deadline(transport: Transport, script: Script) -> None:
    with RawServer(script) as server:
        deadline = within(SHORT)
        with (
            pytest.raises(TransportError) as caught,
            transport.stream(server.get(), deadline) as stream,
        ):
            list(stream)

    assert caught.value.code == "timeout"
    assert deadline.expired
    assert CLOCK.monotonic() - deadline.at < LONG / 2


def test_a_deadline_can_be_moved_while_a_stream_arrives(transport: Transport) -> None:
    """The first piece has less time than the answer; whoever is silent then may use the rest."""
    moved = threading.Event()
    deadline = SilenceDeadline(within(SHORT), silence=LONG, longest=9 * LONG)

    def slowly(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        moved.wait(LONG)
        # Silent for longer than the first piece had.
        conn.wait(3 * SHORT)
        conn.send(b"last")

    with RawServer(slowly) as server, transport.stream(server.get(), deadline) as stream:
        pieces = filter(None, stream)
        assert next(pieces) == b"first"
        deadline.progress()
        moved.set()
        assert list(pieces) == [b"last"]


def test_a_deadline_may_come_nearer_while_a_stream_arrives(transport: Transport) -> None:
    """The first piece may take long; afterwards silence may be much shorter."""
    deadline = SilenceDeadline(within(3 * LONG), silence=SHORT, longest=9 * LONG)

    def fall_silent(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        conn.wait(2 * LONG)

    with RawServer(fall_silent) as server, transport.stream(server.get(), deadline) as stream:
        pieces = filter(None, stream)
        assert next(pieces) == b"first"
        deadline.progress()
        with pytest.raises(TransportError) as caught:
            next(pieces)

    assert caught.value.code == "timeout"
    assert CLOCK.monotonic() - deadline.at < LONG / 2


def test_what_came_while_the_reader_was_busy_came_in_time(transport: Transport) -> None:
    deadline = SilenceDeadline(within(LONG), silence=SHORT, longest=9 * LONG)
    sent = threading.Event()

    def in_two(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
        conn.send(b"last")
        sent.set()
        conn.wait(LONG)

    with RawServer(in_two) as server, transport.stream(server.get(), deadline) as stream:
        pieces = filter(None, stream)
        read = next(pieces)
        deadline.progress()
        assert sent.wait(LONG)
        while not deadline.expired:
            CLOCK.sleep(SHORT / 10)
        while len(read) < 9:
            read += next(pieces)

    assert read == b"firstlast"


def test_a_stream_with_a_long_deadline_does_not_hide_a_late_one(transport: Transport) -> None:
    moved = SilenceDeadline(within(SHORT), silence=3 * LONG, longest=9 * LONG)

    with RawServer(hang_in_the_body) as server, transport.stream(server.get(), moved):
        moved.progress()
        late = within(2 * SHORT)
        with pytest.raises(TransportError) as caught:
            transport.send(server.get(), late)

        assert caught.value.code == "timeout"
        assert CLOCK.monotonic() - late.at < LONG / 2


@pytest.mark.parametrize("script", [cut_the_body, cut_a_chunk, reset], ids=lambda s: s.__name__)
def test_a_stream_that_breaks_off_says_so(transport: Transport, script: Script) -> None:
    with (
        RawServer(script) as server,
        pytest.raises(TransportError) as caught,
        transport.stream(server.get(), within()) as stream,
    ):
        list(stream)

    assert caught.value.code == "connection_lost"


def test_a_stream_is_not_taken_beyond_its_cap(transport: Transport) -> None:
    with (
        RawServer(endless) as server,
        pytest.raises(TransportError) as caught,
        transport.stream(server.get(max_bytes=100_000), within()) as stream,
    ):
        list(stream)

    assert caught.value.code == "response_too_large"
