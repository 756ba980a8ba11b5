"""Both clients in front of a service that fails in every way that sockets can."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gifty_compute.client.errors import ServiceFault, Unreachable, UpstreamFailed
from gifty_compute.client.sync import Client
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector

Connect = Callable[..., Client]

HELLO = [{"role": "user", "content": "Что подарить?"}]


@pytest.fixture
def broken(connect: Connect, fake: FakeProviders) -> Callable[..., Client]:
    """A client of a service that has this fault; each request that comes is written down as groq's."""

    def make(fault: Fault, **how: float) -> Client:
        fake.fault("groq", fault)
        return connect(fake.base_url("groq") + "/openai", "good-key", **how)

    return make


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HEADERS_ONLY, Fault.DRIP])
def test_a_call_is_over_in_time_whatever_the_other_side_does(
    broken: Callable[..., Client], fake: FakeProviders, fault: Fault
) -> None:
    client = broken(fault)

    with pytest.raises(Unreachable, match=r"did not answer POST /v1/embeddings within 0\.\d+ s") as late:
        client.embeddings(["a"], timeout=0.5)

    assert late.value.sent
    assert len(fake.calls("groq")) == 1
    assert fake.calls("groq")[0].body["timeout_ms"] <= 450


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
def test_a_stream_is_over_in_time(broken: Callable[..., Client], fault: Fault) -> None:
    with pytest.raises(Unreachable, match=r"within 0\.\d+ s"):
        list(broken(fault).stream_chat(HELLO, timeout=0.5))


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.TRUNCATED])
def test_a_lost_connection_is_tried_again_only_for_what_may_be_done_twice(
    broken: Callable[..., Client], fake: FakeProviders, fault: Fault
) -> None:
    client = broken(fault, timeout=20)

    with pytest.raises(Unreachable, match="was lost in the middle of POST /v1/embeddings"):
        client.embeddings(["a"])
    assert len(fake.calls("groq")) == 1

    with pytest.raises(Unreachable, match="was lost in the middle of POST /v1/tasks"):
        client.low.embeddings(["a"])
    keys = [call.headers["idempotency-key"] for call in fake.calls("groq")[1:]]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.HTML, ServiceFault),
        (Fault.HTML_502, UpstreamFailed),
        (Fault.EMPTY, ServiceFault),
        (Fault.TRUNCATED_JSON, ServiceFault),
    ],
)
def test_what_is_not_the_services_answer_is_an_error(
    broken: Callable[..., Client], fault: Fault, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        broken(fault).embeddings(["a"], timeout=5)


def test_a_stream_that_breaks_off_is_no_answer(broken: Callable[..., Client]) -> None:
    stream = broken(Fault.CUT_STREAM).stream_chat(HELLO, model="m", timeout=5)

    with pytest.raises(Unreachable, match="was lost in the middle of POST /v1/chat/completions"):
        list(stream)


def test_a_password_in_netrc_does_not_take_the_tokens_place(
    connect: Connect, fake: FakeProviders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fake.fault("groq", Fault.EMPTY)

    with pytest.raises(ServiceFault):
        connect(fake.base_url("groq")).embeddings(["a"])

    assert fake.calls("groq")[0].headers["authorization"] == "Bearer api-token"


def test_many_threads_get_each_their_own_answer(service: str) -> None:
    with Client(service, "api-token") as client, ThreadPoolExecutor(8) as threads:
        texts = [f"товар {number}" for number in range(64)]

        answers = list(threads.map(lambda text: client.embeddings([text], timeout=30), texts))

    for text, answer in zip(texts, answers, strict=True):
        assert np.allclose(answer.vectors, [vector("bge-m3", text)], atol=1e-6)


# -- connections ---------------------------------------------------------------------------------------------


class Counting(ThreadingHTTPServer):
    """Answers every call with an empty list of tasks, and a cookie; counts connections and cookies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = self.cookies = 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_GET(self) -> None:
        body = b'{"tasks": [], "next_cursor": null}'
        with self.server.lock:
            self.server.cookies += "Cookie" in self.headers
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "whose=mine")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_calls_in_a_row_go_over_one_connection(connect: Connect, counting: Counting) -> None:
    client = connect(f"http://127.0.0.1:{counting.server_port}")

    for _ in range(5):
        assert list(client.tasks.list()) == []

    assert counting.connections == 1


def test_a_child_after_a_fork_has_connections_of_its_own(counting: Counting) -> None:
    code = """
import os, signal, sys
from gifty_compute import Client
client = Client(sys.argv[1], "t")
assert list(client.tasks.list()) == []
child = os.fork()
signal.alarm(50)  # neither outlives the test
assert list(client.tasks.list()) == []
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    url = f"http://127.0.0.1:{counting.server_port}"

    subprocess.run([sys.executable, "-c", code, url], check=True, timeout=60)

    assert counting.connections == 2


def test_no_cookie_goes_from_one_call_to_the_next(service: str, counting: Counting) -> None:
    """Threads share the client, and a jar of cookies is not theirs to share."""
    with Client(f"http://127.0.0.1:{counting.server_port}", "t") as client:
        for _ in range(3):
            list(client.tasks.list())

    assert counting.cookies == 0


class Raw(socketserver.ThreadingTCPServer):
    """A service of which the test writes every byte: `script(connection)` for each connection."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, script: Callable[[socketserver.StreamRequestHandler], None]) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    script(self)

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Raw:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def read_request(connection: socketserver.StreamRequestHandler) -> bool:
    length, first = 0, connection.rfile.readline()
    while (line := connection.rfile.readline().strip()) != b"":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    connection.rfile.read(length)
    return bool(first)


def piece(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("line", [piece("а"), b": keep-alive\n\n"], ids=["text", "comment"])
def test_a_stream_goes_on_while_it_flows_whatever_the_timeout(connect: Connect, line: bytes) -> None:
    """K4: the client's own clock cut a stream at 75 s."""
    tick = threading.Event()

    def flow(connection: socketserver.StreamRequestHandler) -> None:
        read_request(connection)
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(12):
            connection.wfile.write(line)
            tick.wait(0.25)
        connection.wfile.write(piece("б", "stop") + b"data: [DONE]\n\n")

    with Raw(flow) as service:
        text = "".join(one.text for one in connect(service.url, "token").stream_chat(HELLO, timeout=2))

    assert text in ("а" * 12 + "б", "б")


def test_a_connection_that_the_service_closed_meanwhile_fails_no_call(connect: Connect) -> None:
    """P25: an idle connection is closed by the other side; the next call goes over a new one."""
    closed = threading.Event()

    def answer_once(connection: socketserver.StreamRequestHandler) -> None:
        read_request(connection)
        body = json.dumps({"gift_score": 7, "reasoning": "", "tags": [], "model": "m"}).encode()
        connection.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        connection.connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with Raw(answer_once) as service:
        client = connect(service.url, "token")
        for _ in range(3):
            closed.clear()
            assert client.score({"title": "чай"}).gift_score == 7
            assert closed.wait(10)
