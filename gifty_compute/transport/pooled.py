"""The transport over urllib3, for machines without libcurl: the same guarantees for more CPU."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    NewConnectionError,
    SSLError,
    TimeoutError,
)

from gifty_compute.clock import Deadline
from gifty_compute.errors import TransportError
from gifty_compute.transport.base import HttpRequest, HttpResponse

__all__ = ["PooledTransport"]

_CHUNK = 65_536


class PooledTransport:
    """One urllib3 pool of kept-alive connections for each origin; a watchdog keeps the deadlines.

    A timeout of a socket is one of each read, so a server that sends a byte now and then could take for ever.
    The watchdog ends the connection of whoever is late, wherever it is. A kept-alive connection that the
    other side has closed is noticed before it is used, as urllib3 does.
    """

    def __init__(self, *, proxy: str | None = None, pool_size: int = 64, ca_file: str | None = None) -> None:
        options: dict[str, Any] = {
            "maxsize": pool_size,
            "retries": False,
            "cert_reqs": "CERT_REQUIRED",
            "ca_certs": ca_file or certifi.where(),
        }
        self._manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        self._manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        self._watchdog = _Watchdog()

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        with self.stream(request, deadline) as stream:
            return HttpResponse(stream.status, stream.headers, b"".join(stream))

    def stream(self, request: HttpRequest, deadline: Deadline) -> PooledStream:
        left = deadline.remaining
        if left <= 0:
            raise TransportError("no time is left to ask", code="timeout", sent=False)
        watch = _Watch(deadline)
        _current.watch = watch
        self._watchdog.begin(watch)
        try:
            response = self._manager.urlopen(
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

    def close(self) -> None:
        self._manager.clear()
        self._watchdog.stop()


class PooledStream:
    """An answer that is still arriving."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, request: HttpRequest, watch: _Watch, watchdog: _Watchdog
    ) -> None:
        self._response, self._request, self._watch, self._watchdog = response, request, watch, watchdog
        self.status = response.status
        self.headers = {name.lower(): value.strip() for name, value in response.headers.items()}

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        while True:
            try:
                piece = self._response.read1(_CHUNK)
            except (HTTPError, OSError) as error:
                raise _translated(error, self._request, self._watch) from error
            if not piece:
                break
            size += len(piece)
            if size > self._request.max_bytes:
                host = _host(self._request)
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


class _Watch:
    """One exchange under the watchdog's eye."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.socket: socket.socket | None = None
        self.ended = self.is_over = self.was_sent = False


class _Current(threading.local):
    """The exchange that this thread's connection is being used for."""

    watch: _Watch | None = None


_current = _Current()


class _Watchdog:
    """One thread that shuts down the sockets of exchanges whose deadline has passed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, _Watch]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def begin(self, watch: _Watch) -> None:
        with self._changed:
            heapq.heappush(self._queue, (watch.deadline.at, next(self._numbers), watch))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="transport", daemon=True)
                self._thread.start()
            if self._queue[0][2] is watch:
                self._changed.notify()

    def end(self, watch: _Watch) -> None:
        with self._changed:
            watch.ended, watch.socket = True, None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                if not self._queue:
                    self._changed.wait()
                    continue
                at, number, watch = self._queue[0]
                left = 0.0 if watch.ended else watch.deadline.remaining
                if left > 0 and at >= watch.deadline.at:
                    self._changed.wait(left)
                elif left > 0:
                    # It was moved, and others may be due before it now.
                    heapq.heapreplace(self._queue, (watch.deadline.at, number, watch))
                else:
                    heapq.heappop(self._queue)
                    self._look(watch)

    def _look(self, watch: _Watch) -> None:
        if watch.ended:
            return
        watch.is_over = True
        if watch.socket is not None:
            with contextlib.suppress(OSError):  # it may be gone already, which is what is wanted
                watch.socket.shutdown(socket.SHUT_RDWR)


class _Watched:
    """A connection that shows its socket to the watchdog for as long as an exchange uses it."""

    sock: Any

    def _new_conn(self) -> Any:
        made = super()._new_conn()  # type: ignore[misc]
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


def _translated(error: BaseException, request: HttpRequest, watch: _Watch) -> TransportError:
    host = _host(request)
    if isinstance(error, NewConnectionError) and not watch.is_over:
        return TransportError(f"{host} cannot be reached", code="connect_failed", sent=False)
    if watch.is_over or isinstance(error, TimeoutError):
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


def _host(request: HttpRequest) -> str:
    return request.url.split("/", 3)[2]
