"""One exchange: what is sent, and how a stream of events is read, in whatever pieces it comes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.errors import Failure, ProviderError, TransportError
from gifty_compute.logic import defaults
from gifty_compute.providers.exchange import Exchange, as_object
from gifty_compute.providers.failures import by_status
from gifty_compute.transport.base import HttpResponse
from tests.unit.conftest import HandClock
from tests.unit.providers.scripted import ScriptedTransport, answered, asking

OK = answered(b"")


def judged(response: HttpResponse) -> ProviderError:
    return by_status(response.status, code=response.body.decode())


def read(*chunks: bytes | TransportError) -> Iterator[bytes]:
    exchange = Exchange(ScriptedTransport(OK, chunks=chunks))
    return exchange.events(asking("groq", "llm", {}), "/x", {}, headers={}, judge=judged)


def test_a_request_is_json_to_the_site_with_the_headers_of_adapter_and_logic() -> None:
    section = defaults.PROVIDERS["openrouter"].model_copy(
        update={"headers": {"HTTP-Referer": "https://gifty.ru"}}
    )
    transport = ScriptedTransport(OK)
    ask = asking("openrouter", "llm", {}, section=section, request_id="r-1")

    Exchange(transport).send(ask, "/x", {"a": "б"}, headers={"authorization": "Bearer k"})

    assert transport.request.method == "POST"
    assert transport.request.url == "http://openrouter.test/x"
    assert transport.body == {"a": "б"}
    assert transport.request.headers == {
        "authorization": "Bearer k",
        "HTTP-Referer": "https://gifty.ru",
        "x-request-id": "r-1",
        "content-type": "application/json",
    }


@pytest.mark.parametrize("value", ["Bearer ключ-canary", "Bearer a\ncanary", "Bearer a\u00a0canary"])
def test_a_key_that_was_copied_wrongly_is_the_operators_to_mend_and_not_quoted(value: str) -> None:
    transport = ScriptedTransport()

    with pytest.raises(ProviderError, match="header authorization") as caught:
        Exchange(transport).send(asking("groq", "llm", {}), "/x", {}, headers={"authorization": value})

    assert (caught.value.failure, caught.value.code) == (Failure.CONFIG, "bad_key")
    assert "canary" not in str(caught.value)
    assert transport.requests == []


@pytest.mark.parametrize(
    "address", ["not a url", "api.groq.com", "ftp://a.example", "http://a b", "http://ж"]
)
def test_an_address_that_is_none_is_the_operators_to_mend(address: str) -> None:
    """One from the environment: those of logic.yaml are looked at when it is read."""
    ask = asking("groq", "llm", {})
    ask = replace(ask, site=replace(ask.site, base_url=address))

    with pytest.raises(ProviderError) as caught:
        Exchange(ScriptedTransport()).send(ask, "/x", {}, headers={})

    assert (caught.value.failure, caught.value.code) == (Failure.CONFIG, "bad_address")


def test_the_deadline_of_the_attempt_is_the_transports() -> None:
    transport = ScriptedTransport(OK, OK, chunks=[])
    ask = asking("groq", "llm", {}, seconds=0.7, clock=HandClock())
    exchange = Exchange(transport)

    exchange.send(ask, "/x", {}, headers={})
    list(exchange.events(ask, "/x", {}, headers={}, judge=judged))

    assert transport.deadlines == [ask.deadline, ask.deadline]


def test_a_request_without_a_body_says_no_content_type() -> None:
    transport = ScriptedTransport(OK)

    Exchange(transport).send(asking("runpod", "embedding", {}), "/status/1", headers={}, method="GET")

    assert transport.request.body is None
    assert dict(transport.request.headers) == {}


def test_bytes_that_do_not_arrive_are_a_provider_error() -> None:
    exchange = Exchange(ScriptedTransport(TransportError(code="timeout")))

    with pytest.raises(ProviderError) as caught:
        exchange.send(asking("groq", "llm", {}), "/x", {}, headers={})

    assert (caught.value.code, caught.value.failure) == ("timeout", Failure.FAILOVER)


def test_json_that_is_no_object_is_a_bad_answer() -> None:
    with pytest.raises(ProviderError) as caught:
        as_object(answered([1]))

    assert caught.value.code == "bad_answer"


STREAM = b': comment\r\nevent: x\r\nid: 1\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:b\r\n\r\n'
EVENTS = [b'{"a":\n1}', b"b"]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"], ids=["CRLF", "LF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_in_pieces_of_any_size(size: int, end: bytes) -> None:
    stream = STREAM.replace(b"\r\n", end)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]

    assert [*filter(None, read(*pieces))] == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]

    assert [*filter(None, read(*(STREAM[a:b] for a, b in itertools.pairwise(edges))))] == EVENTS


def test_silence_is_passed_on_as_none_and_a_comment_as_empty_data() -> None:
    assert list(read(b"data: x\n", b"", b"\n: still here\n\nda", b"", b"ta: y\n\n")) == [
        None,
        b"x",
        b"",
        None,
        b"y",
    ]


@pytest.mark.parametrize("rest", [b"data: last", b"data: last\n", b"data: last\r"])
def test_the_last_event_counts_also_without_an_empty_line_after_it(rest: bytes) -> None:
    assert list(read(b"data: first\n\n" + rest)) == [b"first", b"last"]


def test_an_event_without_data_is_none() -> None:
    assert list(read(b"data:\n\nevent: ping\n\n\n\ndata: x\n\n")) == [b"x"]


def test_an_event_is_there_as_soon_as_its_end_is() -> None:
    events = read(b"data: x\r\n\r", TransportError(code="timeout"))

    assert next(events) == b"x"


def test_a_long_event_in_small_pieces_is_read_in_linear_time() -> None:
    # Joined anew with each piece, these 20 MB would be copied 40,000 times.
    pieces = [b"data: ", *[b"x" * 500] * 40_000, b"\n\n"]

    [event] = read(*pieces)

    assert len(event) == 20_000_000


def test_a_stream_that_breaks_off_is_a_provider_error() -> None:
    events = read(b"data: x\n\n", TransportError(code="connection_lost"))

    assert next(events) == b"x"
    with pytest.raises(ProviderError) as caught:
        next(events)
    assert caught.value.code == "connection_lost"


def test_an_answer_other_than_200_is_judged_with_its_whole_body() -> None:
    exchange = Exchange(ScriptedTransport(answered(b"busy", 503)))
    events = exchange.events(asking("groq", "llm", {}), "/x", {}, headers={}, judge=judged)

    with pytest.raises(ProviderError) as caught:
        next(events)

    assert caught.value.code == "busy"


def test_closing_the_events_leaves_the_stream() -> None:
    transport = ScriptedTransport(OK, chunks=[b"data: 1\n\ndata: 2\n\n"])
    events = Exchange(transport).events(asking("groq", "llm", {}), "/x", {}, headers={}, judge=judged)
    next(events)

    events.close()

    assert transport.streams_left == 1


def test_a_stream_is_asked_for_as_one() -> None:
    transport = ScriptedTransport(OK, chunks=[])

    list(Exchange(transport).events(asking("groq", "llm", {}), "/x", {}, headers={}, judge=judged))

    assert transport.request.headers["accept"] == "text/event-stream"
