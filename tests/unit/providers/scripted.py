"""A transport that plays a script, and asks for the adapters that speak over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import orjson

from gifty_compute.clock import Deadline
from gifty_compute.errors import TransportError
from gifty_compute.logic import defaults
from gifty_compute.logic.file import KindName, OfferSection, ProviderSection, SpaceSection
from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Ask, Site
from gifty_compute.transport.base import HttpRequest, HttpResponse
from tests.unit.conftest import HandClock

KEY = "sk-canary-key"

# An answer, an error, or what makes one from the request.
Doing = HttpResponse | TransportError | Callable[[HttpRequest], HttpResponse]


def answered(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """An answer with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return HttpResponse(status, dict(headers or {}), raw)


class ScriptedTransport:
    """Answers each request with the next doing and notes what was sent, by when, and what was left."""

    def __init__(self, *doings: Doing, chunks: Sequence[bytes | TransportError] | None = None) -> None:
        self._doings = list(doings)
        self._chunks = chunks
        self._lock = threading.Lock()
        self.requests: list[HttpRequest] = []
        self.deadlines: list[Deadline] = []
        self.streams_left = 0
        """How many streams have been ended, by whoever read them."""

    @property
    def bodies(self) -> list[Any]:
        """What was sent, as JSON; None for a request without a body."""
        return [orjson.loads(request.body) if request.body else None for request in self.requests]

    @property
    def body(self) -> Any:
        """The body of the only request."""
        [body] = self.bodies
        return body

    @property
    def request(self) -> HttpRequest:
        """The only request."""
        [request] = self.requests
        return request

    def send(self, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        with self._lock:
            self.requests.append(request)
            self.deadlines.append(deadline)
            doing = self._doings.pop(0)
        if isinstance(doing, TransportError):
            raise doing
        return doing if isinstance(doing, HttpResponse) else doing(request)

    def stream(self, request: HttpRequest, deadline: Deadline) -> ScriptedStream:
        """The next doing, piece by piece; `chunks` in place of the body of a 200."""
        response = self.send(request, deadline)
        whole = self._chunks is None or response.status != 200
        return ScriptedStream(self, response, [response.body] if whole else self._chunks or [])

    def close(self) -> None: ...


class ScriptedStream:
    """An answer in pieces; an error among them is raised when its turn comes."""

    def __init__(
        self, transport: ScriptedTransport, response: HttpResponse, chunks: Sequence[bytes | TransportError]
    ) -> None:
        self._transport, self._chunks = transport, chunks
        self.status, self.headers = response.status, response.headers

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, TransportError):
                raise chunk
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._transport.streams_left += 1


def asking(
    provider: str,
    kind: str,
    payload: dict[str, Any],
    *,
    model_id: str = "some/model",
    flags: OfferSection | None = None,
    section: ProviderSection | None = None,
    space: SpaceSection | None = None,
    key: str = KEY,
    seconds: float = 2.0,
    clock: HandClock | None = None,
    request_id: str = "",
) -> Ask:
    """One attempt at a provider of the defaults, spoken to at `http://<provider>.test`."""
    offer = Offer(
        provider,
        section or defaults.PROVIDERS[provider],
        cast("KindName", kind),
        model_id,
        flags or OfferSection(),
        model_name=model_id,
    )
    deadline = Deadline.after(seconds, clock or HandClock())
    site = Site(f"http://{provider}.test", "1" if key else "", key)
    return Ask(offer, site, payload, deadline, space, request_id)
