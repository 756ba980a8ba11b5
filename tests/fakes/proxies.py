"""Proxies: SOCKS 5 and HTTP, with the names of hosts that only the proxy can look up."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import socketserver
import struct
import threading
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["HttpProxy", "SocksProxy"]

_BUFFER = 65_536


class _Proxy:
    """`with` starts and stops it. Each name that it knows is a port of this machine; it reaches no other."""

    scheme: str

    def __init__(self, names: dict[str, int], *, user: str = "", password: str = "") -> None:
        self.names, self.user, self.password = names, user, password
        self.asked: list[str] = []
        """The hosts to which a way was asked for, as they were named."""
        self.refusal: int | None = None
        """What every way is refused with from now on: the proxy's own status or reply."""
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def address(self) -> str:
        """Without user and password."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """With them."""
        credentials = f"{self.user}:{self.password}@" if self.user else ""
        return f"{self.scheme}://{credentials}127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def dial(self, host: str) -> socket.socket | None:
        self.asked.append(host)
        port = self.names.get(host)
        return socket.create_connection(("127.0.0.1", port)) if port else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class SocksProxy(_Proxy):
    """SOCKS 5 (RFC 1928) with names, and with a password where it has a user (RFC 1929)."""

    scheme = "socks5h"

    def serve(self, client: socket.socket) -> None:
        _, methods = client.recv(2)
        client.recv(methods)
        client.sendall(b"\x05\x02" if self.user else b"\x05\x00")
        if self.user:
            _, length = client.recv(2)
            user = client.recv(length).decode()
            password = client.recv(client.recv(1)[0]).decode()
            good = (user, password) == (self.user, self.password)
            client.sendall(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        _, _, _, kind = client.recv(4)
        host = client.recv(client.recv(1)[0]).decode() if kind == 3 else socket.inet_ntoa(client.recv(4))
        client.recv(2)
        found = None if self.refusal else self.dial(host)
        reply = self.refusal or (0 if found else 4)
        client.sendall(struct.pack("!BBBB4sH", 5, reply, 0, 1, b"\0\0\0\0", 0))
        if found:
            _relay(client, found)


class HttpProxy(_Proxy):
    """CONNECT, and whole addresses in the request line."""

    scheme = "http"

    def serve(self, client: socket.socket) -> None:
        head = _head(client)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        wanted = b"basic " + base64.b64encode(f"{self.user}:{self.password}".encode())
        if self.user and b"proxy-authorization: " + wanted.lower() not in head.lower():
            client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        if self.refusal:
            client.sendall(f"HTTP/1.1 {self.refusal} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host = target.partition(":")[0] if method == "CONNECT" else str(urlsplit(target).hostname)
        found = self.dial(host)
        if found is None:
            client.sendall(b"HTTP/1.1 502 No such host\r\nContent-Length: 0\r\n\r\n")
            return
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
        else:
            path = target.split("/", 3)[3]
            found.sendall(head.replace(target.encode(), f"/{path}".encode(), 1))
        _relay(client, found)


def _head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(_BUFFER)
        if not piece:
            raise ConnectionError
        head += piece
    return head


def _relay(left: socket.socket, right: socket.socket) -> None:
    with left, right:
        ways: dict[Any, socket.socket] = {left: right, right: left}
        while True:
            for end in select.select(list(ways), [], [], 30)[0]:
                data = end.recv(_BUFFER)
                if not data:
                    return
                ways[end].sendall(data)
