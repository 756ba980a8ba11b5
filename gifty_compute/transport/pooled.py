"""The transport over urllib3, for machines without libcurl: the same guarantees for more CPU."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import unquote

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as PoolTimeoutError,
)
from urllib3.util import make_headers, parse_url

from gifty_compute.clock import Deadline
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest, HttpResponse, host_of
from gifty_compute.transport.dial import Dialer
from gifty_compute.transport.watchdog import Watch, Watchdog

__all__ = ["PooledTransport"]

_CHUNK = 65_536


class PooledTransport:
    """One urllib3 pool of kept-alive connections for each origin; a watchdog keeps the deadlines.

    A timeout of a socket is one of each read, so a server that sends a byte now and then could take for ever.
    The watchdog ends the connection of whoever is late, wherever it is. A kept-alive connection that the
    other side has closed is noticed before it is used, as urllib3 does.
    """

    def __init__(
        self,
        *,
        pool_size: int = 64,
        ca_file: str | None = None,
        dialer: Dialer | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "maxsize": pool_size,
            "retries": False,
            "cert_reqs": "CERT_REQUIRED",
            "ca_certs": ca_file or certifi.where(),
        }
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._watchdog = Watchdog()
        self._dialer = dialer or Dialer()

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        with self.stream(request, deadline) as stream:
            return HttpResponse(stream.status, stream.headers, b"".join(stream))

    def stream(self, request: HttpRequest, deadline: Deadline) -> PooledStream:
        left = deadline.remaining
        if left <= 0:
            raise TransportError("no time is left to ask", code="timeout", sent=False)
        watch = Watch(deadline)
        _current.watch, _current.dialer = watch, self._dialer
        self._watchdog.begin(watch)
        try:
            response = self._manager(request).urlopen(
                request.method,
                request.url,
                body=request.body,
                headers={"accept-encoding": "gzip, deflate", **request.headers},
                preload_content=False,
                redirect=False,
                # Of reading the watchdog alone: the deadline may be moved while the body arrives.
                timeout=urllib3.Timeout(connect=left, read=None),
            )
        except (HTTPError, OSError) as error:
            self._watchdog.end(watch)
            raise _translated(error, request, watch) from error
        finally:
            _current.watch = None
        return PooledStream(response, request, watch, self._watchdog)

    def _manager(self, request: HttpRequest) -> urllib3.PoolManager:
        """Of all connections through the request's proxy, or without one. Raises TransportError for SOCKS."""
        with self._lock:
            if request.proxy not in self._managers:
                made = _new_manager(request, self._options)
                made.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
                self._managers[request.proxy] = made
            return self._managers[request.proxy]

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()
        self._watchdog.stop()


class PooledStream:
    """An answer that is still arriving."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, request: HttpRequest, watch: Watch, watchdog: Watchdog
    ) -> None:
        self._response, self._request, self._watch, self._watchdog = response, request, watch, watchdog
        self.status = response.status
        self.headers = {name.lower(): value.strip() for name, value in response.headers.items()}

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        while True:
            self._watchdog.look_again(self._watch)
            try:
                piece = self._response.read1(_CHUNK)
            except (HTTPError, OSError) as error:
                raise _translated(error, self._request, self._watch) from error
            if not piece:
                break
            size += len(piece)
            if size > self._request.max_bytes:
                host = host_of(self._request.url)
                message = f"{host} answered more than {self._request.max_bytes} bytes"
                raise TransportError(message, code="response_too_large")
            yield piece
        if self._watch.is_over or getattr(self._response, "length_remaining", None):
            raise _translated(ConnectionError(), self._request, self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watchdog.end(self._watch)
        whole = kind is None and not self._watch.is_over and not self._response.length_remaining
        if not whole or not self._response.closed:
            self._response.close()
        self._response.release_conn()


class _Current(threading.local):
    """The exchange that this thread's connection is being used for, and what makes it a new one."""

    watch: Watch | None = None
    dialer: Dialer | None = None


_current = _Current()


class _Watched:
    """A connection that shows its socket to the watchdog for as long as an exchange uses it."""

    sock: Any
    host: str
    port: int
    socket_options: Any

    def _new_conn(self) -> socket.socket:
        """In place of urllib3's, which gives each address of a name the whole time, and its look-up any."""
        watch, dialer = _current.watch, _current.dialer
        assert watch is not None
        assert dialer is not None
        try:
            made = dialer.connect(self.host, self.port, watch.deadline, self.socket_options or ())
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(cast("HTTPConnection", self), str(error)) from error
        _show(made)
        return made

    def request(self, *arguments: Any, **named: Any) -> None:
        if self.sock is not None:
            _show(self.sock)
        super().request(*arguments, **named)  # type: ignore[misc]

    def getresponse(self) -> Any:
        _show(self.sock)
        if _current.watch is not None:
            _current.watch.was_sent = True
        return super().getresponse()  # type: ignore[misc]


def _show(found: socket.socket) -> None:
    watch = _current.watch
    if watch is None:
        return
    watch.socket = found
    if watch.is_over:
        # The watchdog came by before there was a socket to end.
        raise OSError("the deadline has passed")


class _Connection(_Watched, HTTPConnection):
    pass


class _TlsConnection(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _new_manager(request: HttpRequest, options: dict[str, Any]) -> urllib3.PoolManager:
    if not request.proxy:
        return urllib3.PoolManager(**options)
    proxy = parse_url(request.proxy)
    if proxy.scheme not in ("http", "https"):
        message = (
            f"{host_of(request.url)} is behind a {proxy.scheme} proxy, for which pycurl must be installed"
        )
        raise TransportError(message, code="socks_needs_pycurl", sent=False)
    told = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
    return urllib3.ProxyManager(proxy._replace(auth=None).url, proxy_headers=told, **options)


def _translated(error: BaseException, request: HttpRequest, watch: Watch) -> TransportError:
    host = host_of(request.url)
    if isinstance(error, ProxyError) and isinstance(error.original_error, OSError) and not watch.is_over:
        message = f"the proxy on the way to {host} opens no way there"
        return TransportError(message, code="proxy_refused", sent=False)
    if isinstance(error, NewConnectionError) and not watch.is_over:
        return TransportError(f"{host} cannot be reached", code="connect_failed", sent=False)
    if watch.is_over or isinstance(error, PoolTimeoutError):
        return TransportError(f"{host} did not answer in time", code="timeout", sent=watch.was_sent)
    if isinstance(error, SSLError) or isinstance(error.__cause__, ssl.SSLCertVerificationError):
        certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
        if certificate:
            return TransportError(f"{host} has no valid certificate", code="bad_certificate", sent=False)
    if not watch.was_sent:
        return TransportError(f"{host} cannot be reached", code="connect_failed", sent=False)
    if isinstance(error, DecodeError):
        return TransportError(f"{host} answered what cannot be decoded", code="connection_lost")
    return TransportError(f"the connection to {host} was lost", code="connection_lost")
