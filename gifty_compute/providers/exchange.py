"""One JSON exchange with a provider: what all adapters over HTTP share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gifty_compute.errors import TransportError
from gifty_compute.providers.base import Ask
from gifty_compute.providers.failures import bad_answer, by_transport
from gifty_compute.transport.base import HttpRequest, HttpResponse, Transport

__all__ = ["Exchange", "as_json", "as_object"]


class Exchange:
    """Sends JSON and gives back what came, whatever its status; judging it is the adapter's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(
        self, ask: Ask, path: str, body: Any = None, *, headers: Mapping[str, str], method: str = "POST"
    ) -> HttpResponse:
        """The whole answer. Raises ProviderError where none arrived by `ask.deadline`."""
        try:
            return self._transport.send(_request(ask, path, body, headers, method), ask.deadline)
        except TransportError as error:
            raise by_transport(error) from error

    def events(
        self, ask: Ask, path: str, body: Any, *, headers: Mapping[str, str]
    ) -> Iterator[HttpResponse | bytes]:
        """A stream of server-sent events: first what was answered, then each event's data.

        An answer other than 200 comes with its whole body, and nothing after it; of a 200 the body is empty.
        """
        request = _request(ask, path, body, {**headers, "accept": "text/event-stream"}, "POST")
        try:
            with self._transport.stream(request, ask.deadline) as stream:
                if stream.status != 200:
                    yield HttpResponse(stream.status, stream.headers, b"".join(stream))
                    return
                yield HttpResponse(stream.status, stream.headers, b"")
                yield from _data_of_events(stream)
        except TransportError as error:
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


def _request(ask: Ask, path: str, body: Any, headers: Mapping[str, str], method: str) -> HttpRequest:
    sent = {**headers, **ask.offer.section.headers}
    if ask.request_id:
        sent["x-request-id"] = ask.request_id
    if body is not None:
        sent["content-type"] = "application/json"
    return HttpRequest(
        method, ask.site.base_url + path, sent, orjson.dumps(body) if body is not None else None
    )


def _data_of_events(chunks: Iterator[bytes] | Any) -> Iterator[bytes]:
    """The data of each event of a stream (WHATWG HTML, "server-sent events"); comments are left out."""
    data: list[bytes] = []
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
