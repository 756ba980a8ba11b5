"""One JSON exchange with a provider: what all adapters over HTTP share."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import orjson

from gifty_compute.errors import Failure, ProviderError, TransportError
from gifty_compute.providers.base import Ask
from gifty_compute.providers.failures import bad_answer, by_transport
from gifty_compute.transport.base import HttpRequest, HttpResponse, Transport
from gifty_compute.wire.size import CHARACTERS_A_TOKEN, estimated_tokens

__all__ = ["Exchange", "as_json", "as_object", "event_object"]

_URL = re.compile(r"https?://[!-~]+")
_WAITED_IN_VAIN = frozenset({408, 499, 504, 522, 524})
_PROXY = re.compile(r"(https?|socks5h?)://[!-~]+")


class Exchange:
    """Sends JSON and gives back what came, whatever its status; judging it is the adapter's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(
        self, ask: Ask, path: str, body: Any = None, *, headers: Mapping[str, str], method: str = "POST"
    ) -> HttpResponse:
        """The whole answer. Raises ProviderError where none arrived by `ask.deadline`.

        The meter counts a body as a request that may be billed, until an error status comes back.
        """
        request = _request(ask, path, body, headers, method)
        metered = _meter(ask, body)
        try:
            response = self._transport.send(request, ask.deadline)
        except TransportError as error:
            if metered and not error.sent:
                ask.meter.refuse()
            raise by_transport(error) from error
        if metered and _is_refusal(response.status):
            ask.meter.refuse()
        elif metered and ask.offer.ask_as == "llm":
            ask.meter.hear(len(response.body) // CHARACTERS_A_TOKEN)
        return response

    def events(
        self,
        ask: Ask,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str],
        judge: Callable[[HttpResponse], ProviderError],
    ) -> Generator[bytes | None, None, None]:
        """The data of each server-sent event, as it arrives: empty for a comment, None while nothing comes.

        Closing the iterator ends the exchange.

        Raises what `judge` makes of an answer other than 200, and ProviderError where the bytes stop coming.
        """
        request = _request(ask, path, body, {**headers, "accept": "text/event-stream"}, "POST")
        metered = _meter(ask, body)
        try:
            with self._transport.stream(request, ask.deadline) as stream:
                if stream.status != 200:
                    if metered and _is_refusal(stream.status):
                        ask.meter.refuse()
                    raise judge(HttpResponse(stream.status, stream.headers, b"".join(stream)))
                for data in _data(_lines(stream)):
                    if data:
                        # Nearly all servers send an event for each token, those of thinking included.
                        ask.meter.hear(1)
                    yield data
        except TransportError as error:
            if metered and not error.sent:
                ask.meter.refuse()
            raise by_transport(error) from error


def as_json(response: HttpResponse) -> Any:
    """The body as JSON. Raises ProviderError (not_json) for a proxy's page and the like."""
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise bad_answer(
            f"answered {response.status} with a body that is not JSON", code="not_json"
        ) from error


def as_object(response: HttpResponse) -> dict[str, Any]:
    """The body as a JSON object. Raises ProviderError."""
    value = as_json(response)
    if not isinstance(value, dict):
        raise bad_answer("answered with JSON that is not an object")
    return value


def event_object(data: bytes) -> dict[str, Any]:
    """The data of one event as a JSON object. Raises ProviderError."""
    return as_object(HttpResponse(200, {}, data))


def _meter(ask: Ask, body: Any) -> bool:
    """Whether this request has something to bill; the meter is told of it then."""
    tokens = estimated_tokens(body) if isinstance(body, dict) else 0
    if tokens:
        ask.meter.send(tokens)
    return tokens > 0


def _is_refusal(status: int) -> bool:
    """Whether the provider says that it did not do the work: an error status, but for those of a gateway that
    waited in vain for what may still have been done."""
    return status >= 400 and status not in _WAITED_IN_VAIN


def _request(ask: Ask, path: str, body: Any, headers: Mapping[str, str], method: str) -> HttpRequest:
    sent = {**headers, **ask.offer.section.headers}
    if ask.request_id:
        sent["x-request-id"] = ask.request_id
    if body is not None:
        sent["content-type"] = "application/json"
    url = ask.site.base_url + path
    _refuse_unsendable(url, sent, ask.site.proxy)
    content = orjson.dumps(body) if body is not None else None
    return HttpRequest(method, url, sent, content, proxy=ask.site.proxy)


def _refuse_unsendable(url: str, headers: Mapping[str, str], proxy: str) -> None:
    """Raises ProviderError for what HTTP has no room for, most likely a key that was copied wrongly.

    None of them is quoted: they hold the key, and the proxy's password.
    """
    if proxy and not _PROXY.fullmatch(proxy):
        message = "its proxy is no address of an http, https, socks5 or socks5h proxy"
        raise ProviderError(message, failure=Failure.CONFIG, code="bad_proxy")
    if not _URL.fullmatch(url):
        raise ProviderError("its address is no URL", failure=Failure.CONFIG, code="bad_address")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            message = f"the header {name}, or the key in it, has characters other than printable ASCII"
            raise ProviderError(message, failure=Failure.CONFIG, code="bad_key")


def _data(lines: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """The data of each event (WHATWG HTML, "server-sent events"), empty for a comment, None for silence.

    The last event counts also without the empty line after it.
    """
    data: list[bytes] = []
    for line in chain(lines, [b""]):
        if line is None:
            yield None
        elif line.startswith(b":"):
            yield b""
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line:
            if any(data):
                yield b"\n".join(data)
            data = []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends, which are CRLF, LF or CR, in one chunk or split over two; None for an empty
    chunk, which says that nothing has come for a while.

    What has no end yet is kept in pieces: a long line that drips in is not copied again with each drop.
    """
    pieces: list[bytes] = []
    after_cr = False
    for chunk in chunks:
        if not chunk:
            yield None
            continue
        rest = chunk[1:] if after_cr and chunk.startswith(b"\n") else chunk
        after_cr = chunk.endswith(b"\r")
        *ended, rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in ended:
            yield b"".join([*pieces, line])
            pieces = []
        pieces.append(rest)
    yield b"".join(pieces)
