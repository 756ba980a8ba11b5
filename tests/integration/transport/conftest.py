"""A server that says exactly what a test wants, byte by byte, and both transports to meet it."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from gifty_compute.transport.base import HttpRequest, Transport
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.transport.pooled import PooledTransport

Script = Callable[["Connection"], None]


class Connection:
    """The server's end of one connection."""

    def __init__(self, server: RawServer, conn: socket.socket) -> None:
        self.socket, self._server = conn, server
        self._reader = conn.makefile("rb")

    def request(self) -> bytes | None:
        """The next request's head and body; None where the client has hung up."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._reader.readline()
            if not line:
                return None
            head += line
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        got = head + self._reader.read(length)
        self._server.requests.append(got)
        return got

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> None:
        self.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the end of the test; whether it has come."""
        return self._server.over.wait(seconds)

    def is_left(self, seconds: float = 10) -> bool:
        """Whether the client hangs up within this time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


class RawServer:
    """Plays a script on every connection; `with` starts and stops it."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        scheme = "https" if tls else "http"

        class Handler(socketserver.BaseRequestHandler):
            def handle(inner) -> None:
                self.connections += 1
                try:
                    conn = tls.wrap_socket(inner.request, server_side=True) if tls else inner.request
                    script(Connection(self, conn))
                    conn.close()
                except OSError:
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def get(self, path: str = "/x", *, max_bytes: int = 1_000_000) -> HttpRequest:
        return HttpRequest("GET", self.url + path, {}, max_bytes=max_bytes)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(params=[CurlTransport, PooledTransport], ids=["curl", "urllib3"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Transport]]:
    """Makes a transport of either kind."""
    made: list[Transport] = []

    def build(**options: str) -> Transport:
        made.append(request.param(**options))
        return made[-1]

    yield build
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make: Callable[..., Transport]) -> Transport:
    return make()
