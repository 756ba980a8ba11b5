"""The transport's protocol: one HTTP exchange, over by its deadline whatever the other side does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from gifty_compute.clock import Deadline

__all__ = ["MAX_RESPONSE_BYTES", "HttpRequest", "HttpResponse", "HttpStream", "Transport", "host_of"]

# 2048 vectors of 1,024 numbers as JSON text are about 45 MB.
MAX_RESPONSE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent. The body is not copied; a body of None sends none."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    max_bytes: int = MAX_RESPONSE_BYTES
    proxy: str = field(default="", repr=False)
    """The proxy that leads to the host: http, https, socks5, or socks5h, which looks the name up itself."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back, whatever its status; header names are in lower case, the body is decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpStream(Protocol):
    """An answer that is still arriving. Leaving the `with` block ends the exchange on the wire, too."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names are in lower case."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """The body in pieces as they arrive. Raises TransportError, `timeout` at the deadline.

        While nothing arrives an empty piece may come about once a second, so that the reader can look around.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Transport(Protocol):
    """Pooled connections, kept alive, safe for many threads; no redirects, no retries, no proxies unasked."""

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        """The whole answer. Raises TransportError: connect_failed, proxy_refused, connection_lost, timeout, …

        The deadline covers connecting, sending and every byte of the answer.
        """
        ...

    def stream(self, request: HttpRequest, deadline: Deadline) -> HttpStream:
        """The answer as soon as its headers are there; the deadline covers its body, too."""
        ...

    def close(self) -> None:
        """Closes all idle connections."""
        ...


def host_of(url: str) -> str:
    """Host and port of a URL as errors name them: without the user and password that may stand before them.

    >>> host_of("https://user:word@gpu.example:8443/v1?key=abc")
    'gpu.example:8443'
    """
    return url.split("/", 3)[2].rpartition("@")[2].partition("?")[0]
