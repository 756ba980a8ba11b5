"""The transport over libcurl: of all ways to let many threads wait for many providers the cheapest."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import certifi
import pycurl

from gifty_compute.clock import Deadline
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest, HttpResponse, host_of

__all__ = ["CurlTransport"]

_FAILED_TO_CONNECT = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_RESOLVE_PROXY,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
    }
)
# CURLE_PROXY, which pycurl has no name for: what a SOCKS proxy refuses.
_REFUSED_BY_PROXY = 97
# A connection that lay idle for longer is not used again: its other end may have forgotten it.
_IDLE_SECONDS = 50
# While libcurl waits for nothing that can be selected, as for a name, it is asked again after this.
_POLL_SECONDS = 0.005
# While a stream is silent its reader gets an empty piece this often.
_LOOK_AROUND_SECONDS = 1.0


class CurlTransport:
    """A pool of handles for each origin, each with a connection that is kept alive; last in, first out.

    May be made before a fork if it is first used after it.

    libcurl sends a request once more, on a new connection, if one that was kept alive turns out to be closed
    before a byte of an answer came. The other side may in theory have seen the first one. That is the price
    of keep-alive: the work asked for here has no effects, so it may cost twice and can do no harm.
    """

    def __init__(
        self,
        *,
        pool_size: int = 64,
        ca_file: str | None = None,
        admits: Callable[[str], bool] | None = None,
    ) -> None:
        """At most `pool_size` idle handles are kept for an origin, and for each proxy that leads to it.

        `admits` is asked for every address before a connection to it is begun, whatever name or spelling led
        there; what it refuses is never dialled, and the exchange ends with the code address_refused.
        """
        self._pool_size, self._admits = pool_size, admits
        self._ca_file = ca_file or certifi.where()
        self._idle: dict[tuple[str, str], deque[Any]] = {}

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        exchange = _Exchange(request, deadline, self._admits)
        handle = self._take(request)
        exchange.prepare(handle)
        try:
            handle.perform()
            status = handle.getinfo(pycurl.RESPONSE_CODE)
        except pycurl.error as error:
            failed = exchange.error(handle, int(error.args[0]))
            handle.close()
            raise failed from error
        body = exchange.finish(handle)
        self._give(request, handle)
        return HttpResponse(status, exchange.headers(), body)

    def stream(self, request: HttpRequest, deadline: Deadline) -> CurlStream:
        handle = self._take(request)
        stream = CurlStream(handle, _Exchange(request, deadline, self._admits))
        stream.begin()
        return stream

    def close(self) -> None:
        for handles in self._idle.values():
            while handles:
                handles.pop().close()

    def _take(self, request: HttpRequest) -> Any:
        try:
            return self._idle[_way(request)].pop()
        except (KeyError, IndexError):
            handle = self._new_handle()
            handle.setopt(pycurl.PROXY, request.proxy)
            return handle

    def _give(self, request: HttpRequest, handle: Any) -> None:
        handles = self._idle.setdefault(_way(request), deque())
        if len(handles) < self._pool_size:
            handles.append(handle)
        else:
            handle.close()

    def _new_handle(self) -> Any:
        handle = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            # The least that libcurl takes; 64 kB for each of some hundred handles would mostly lie empty.
            (pycurl.UPLOAD_BUFFERSIZE, 16_384),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            # Set, lest the environment's no_proxy takes a host from the proxy.
            (pycurl.NOPROXY, ""),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.CAINFO, self._ca_file),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.ACCEPT_ENCODING, "gzip, deflate"),
            (pycurl.MAXAGE_CONN, _IDLE_SECONDS),
        ):
            handle.setopt(option, value)
        return handle


class CurlStream:
    """An answer that is still arriving, driven by the thread that reads it."""

    status: int
    headers: Mapping[str, str]

    def __init__(self, handle: Any, exchange: _Exchange) -> None:
        self._handle, self._exchange = handle, exchange
        self._multi = pycurl.CurlMulti()
        self._active = False
        self._failed: int | None = None
        self._pause = threading.Event()

    def begin(self) -> None:
        """Returns when the headers are there."""
        try:
            self._exchange.prepare(self._handle)
            # The deadline may be moved while the body arrives; it is looked at here instead.
            self._handle.setopt(pycurl.TIMEOUT_MS, 0)
            self._multi.add_handle(self._handle)
            self._active = True
            self._drive()
            while self._active and not self._exchange.has_headers:
                self._step()
            if not self._exchange.has_headers:
                self._refuse_failure()
        except BaseException:
            self._close()
            raise
        self.status = self._handle.getinfo(pycurl.RESPONSE_CODE)
        self.headers = self._exchange.headers()

    def __iter__(self) -> Iterator[bytes]:
        pieces = self._exchange.pieces
        while True:
            if pieces:
                piece = b"".join(pieces)
                pieces.clear()
                yield piece
            elif self._active:
                self._step()
                if not pieces:
                    yield b""
            else:
                # What came before a break is handed out first.
                self._refuse_failure()
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _step(self) -> None:
        left = self._exchange.deadline.remaining
        if left <= 0:
            # What came while the reader was busy elsewhere was in time.
            self._drive()
            if self._exchange.pieces or not self._active:
                return
            raise self._exchange.error(self._handle, pycurl.E_OPERATION_TIMEDOUT)
        if self._multi.select(min(left, _LOOK_AROUND_SECONDS)) < 0:
            self._pause.wait(min(left, _POLL_SECONDS))
        self._drive()

    def _drive(self) -> None:
        _, running = self._multi.perform()
        if running:
            return
        self._active = False
        _, _, failed = self._multi.info_read()
        if failed:
            self._failed = failed[0][1]

    def _refuse_failure(self) -> None:
        if self._failed is not None:
            raise self._exchange.error(self._handle, self._failed)

    def _close(self) -> None:
        # A handle that has a stream behind it is not used again: closing it ends the exchange on the wire.
        self._multi.close()
        self._handle.close()


class _Exchange:
    """What belongs to one request on a handle."""

    def __init__(
        self, request: HttpRequest, deadline: Deadline, admits: Callable[[str], bool] | None
    ) -> None:
        self.request, self.deadline, self._admits = request, deadline, admits
        self._refused: str | None = None
        self.pieces: list[bytes] = []
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def has_headers(self) -> bool:
        """Whether the head of the final answer is complete; one of an interim answer is not it."""
        lines = self._lines
        if not lines or lines[-1] != b"\r\n":
            return False
        first = next(line for line in reversed(lines) if line.startswith(b"HTTP/"))
        return first.split()[1:2] != [b"100"]

    def prepare(self, handle: Any) -> None:
        """Sets what changes from request to request. Raises TransportError where no time is left."""
        left = self.deadline.remaining
        if left <= 0:
            raise TransportError("no time is left to ask", code="timeout", sent=False)
        request = self.request
        handle.setopt(pycurl.URL, request.url)
        # Without "Expect:" libcurl would ask before it sends a large body, and wait a second for a yes.
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        handle.setopt(pycurl.HTTPHEADER, [*headers, "Expect:"])
        handle.setopt(pycurl.TIMEOUT_MS, max(1, int(left * 1000)))
        if request.body is None:
            handle.setopt(pycurl.HTTPGET, 1)
        else:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDS, request.body)
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
        handle.setopt(pycurl.WRITEFUNCTION, self._write)
        # Not a method of ours: called once a line, it would be the larger part of what an answer costs.
        handle.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        if self._admits is not None:
            handle.setopt(pycurl.OPENSOCKETFUNCTION, self._open)

    def finish(self, handle: Any) -> bytes:
        """The body. The handle will lie idle, and must not keep alive what went through it."""
        handle.unsetopt(pycurl.WRITEFUNCTION)
        handle.unsetopt(pycurl.OPENSOCKETFUNCTION)
        handle.setopt(pycurl.POSTFIELDS, b"")
        return b"".join(self.pieces)

    def headers(self) -> Mapping[str, str]:
        return _Headers(self._lines)

    def error(self, handle: Any, number: int) -> TransportError:
        """What libcurl's error means. Its own words name addresses and stay here."""
        host = host_of(self.request.url)
        sent = handle.getinfo(pycurl.REQUEST_SIZE) > 0
        if self._size > self.request.max_bytes:
            message = f"{host} answered more than {self.request.max_bytes} bytes"
            return TransportError(message, code="response_too_large")
        if self._refused is not None:
            message = f"{host} is at {self._refused}, which may not be called"
            return TransportError(message, code="address_refused", sent=False)
        tunnel = handle.getinfo(pycurl.HTTP_CONNECTCODE)
        if number == _REFUSED_BY_PROXY or (tunnel and tunnel // 100 != 2):
            message = f"the proxy on the way to {host} opens no way there ({tunnel or 'by its protocol'})"
            return TransportError(message, code="proxy_refused", sent=False)
        if number == pycurl.E_OPERATION_TIMEDOUT:
            return TransportError(f"{host} did not answer in time", code="timeout", sent=sent)
        if number == pycurl.E_PEER_FAILED_VERIFICATION:
            return TransportError(f"{host} has no valid certificate", code="bad_certificate", sent=False)
        if number in _FAILED_TO_CONNECT:
            return TransportError(f"{host} cannot be reached", code="connect_failed", sent=False)
        return TransportError(f"the connection to {host} was lost", code="connection_lost", sent=sent)

    def _open(self, _purpose: int, address: Any) -> Any:
        """libcurl's socket for an address that it is about to dial; none for one that is not admitted."""
        host = address.addr[0]
        if self._refused is None and self._admits is not None and self._admits(host):
            return socket.socket(address.family, address.socktype, address.protocol)
        self._refused = self._refused or host
        return pycurl.SOCKET_BAD

    def _write(self, chunk: bytes) -> int | None:
        self._size += len(chunk)
        if self._size > self.request.max_bytes:
            return 0
        self.pieces.append(chunk)
        return None


class _Headers(Mapping[str, str]):
    """Header lines that are read when somebody asks, which is seldom: most answers are 200 and need none."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    @cached_property
    def _found(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(b"HTTP/"):
                # An interim answer (100, 103) came before this one.
                found.clear()
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                found[name.strip().lower()] = value.strip()
        return found

    def __getitem__(self, name: str) -> str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _way(request: HttpRequest) -> tuple[str, str]:
    """The origin and the proxy that leads to it: a connection goes one such way."""
    return "/".join(request.url.split("/", 3)[:3]), request.proxy
