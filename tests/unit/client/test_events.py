"""A streamed chat is read right however its bytes are cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.client.errors import ApiError, ServiceFault, UpstreamFailed
from gifty_compute.client.events import ChatEvents


def event(text: str, reason: str | None = None) -> bytes:
    chunk = {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


@given(
    st.lists(st.text(min_size=1).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))),
    st.data(),
)
def test_the_pieces_do_not_depend_on_where_the_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    raw = b": hello\n\n" + b"".join(map(event, texts)) + b"data: [DONE]\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    events = ChatEvents()

    pieces = [
        piece.text
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)
        for piece in events.feed(raw[start:end])
    ]

    assert pieces == texts
    assert events.ended


def test_line_separators_of_unicode_end_no_line() -> None:
    [piece] = ChatEvents().feed(event("a\u2028b\u0085c\x1cd"))

    assert piece.text == "a\u2028b\u0085c\x1cd"


def test_an_answer_without_its_end_is_not_whole() -> None:
    events = ChatEvents()

    assert [piece.finish_reason for piece in events.feed(event("a", "stop"))] == ["stop"]
    assert not events.ended


def test_an_error_among_the_events_is_raised_as_it_is_told() -> None:
    told = {"code": "connection_lost", "message": "the provider broke off", "request_id": "r-1"}

    with pytest.raises(UpstreamFailed) as failed:
        list(ChatEvents().feed(b"data: " + json.dumps({"error": told}).encode() + b"\n"))

    assert (failed.value.code, failed.value.request_id) == ("connection_lost", "r-1")


@pytest.mark.parametrize("said", [b"{", b"7", b'{"choices": 7}', b'{"choices": [{"delta": 7}]}', b"\xff"])
def test_what_is_no_event_of_the_contract_is_an_error_of_ours(said: bytes) -> None:
    with pytest.raises(ServiceFault) as fault:
        list(ChatEvents().feed(b"data: " + said + b"\n"))

    assert isinstance(fault.value, ApiError)
    assert not fault.value.retryable
