"""Every kind of answer becomes the error that a worker acts on."""

from __future__ import annotations

import json

import pytest
import requests

from gifty_compute import errors
from gifty_compute.poll.refusals import TokenRefused, refusal, unreachable

CALL = "POST /internal/workers/tasks/7/result"


def told(code: str, message: str = "what happened", **fields: str) -> bytes:
    return json.dumps({"error": {"type": "t", "code": code, "message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (400, "malformed_body", errors.MalformedBody, False),
        (401, "unauthorized", TokenRefused, True),
        (404, "not_found", errors.NotFound, False),
        (409, "lease_lost", errors.LeaseLost, False),
        (409, "task_finished", errors.TaskFinished, False),
        (409, "something_new", errors.Conflict, False),
        (413, "too_large", errors.TooLarge, False),
        (415, "unsupported_media", errors.UnsupportedMedia, False),
        (422, "invalid_result", errors.InvalidResult, False),
        (422, "invalid_text", errors.InvalidRequest, False),
        (403, "forbidden", errors.Unavailable, True),
        (408, "timeout", errors.Unavailable, True),
        (425, "too_early", errors.Unavailable, True),
        (429, "rate_limited", errors.Unavailable, True),
        (500, "internal_error", errors.Unavailable, True),
        (503, "store_unavailable", errors.Unavailable, True),
    ],
)
def test_each_answer_is_the_most_specific_error(
    status: int, code: str, kind: type[errors.GiftyComputeError], retryable: bool
) -> None:
    error = refusal(CALL, status, {}, told(code))

    assert type(error) is kind
    assert error.retryable is retryable


def test_the_message_names_the_call_the_status_the_reason_and_the_request() -> None:
    error = refusal(CALL, 422, {}, told("invalid_result", "a vector is zero", request_id="r-1"))

    assert error.message == f"{CALL} was answered 422: a vector is zero (request r-1)"


def test_the_field_that_breaks_a_rule_is_kept() -> None:
    error = refusal(CALL, 422, {}, told("unknown_model", param="model"))

    assert isinstance(error, errors.InvalidRequest)
    assert (error.param, error.code) == ("model", "unknown_model")


@pytest.mark.parametrize("content", [b"<html>Bad gateway SECRET</html>", b"", b'{"error":"SECRET"}', b"\xff"])
def test_another_programs_error_page_is_not_repeated(content: bytes) -> None:
    error = refusal(CALL, 404, {}, content)

    assert type(error) is errors.NotFound
    assert "is this the facade's address?" in error.message
    assert "SECRET" not in error.message


def test_a_long_message_is_cut_to_one_printable_line() -> None:
    error = refusal(CALL, 409, {}, told("conflict", "a\n\x1b[31m" + "b" * 100_000))

    assert len(error.message) < 700
    assert error.message.isprintable()


def test_a_redirect_says_where_the_address_should_point() -> None:
    error = refusal(CALL, 301, {"Location": "https://new.example/internal"}, b"")

    assert error.retryable
    assert "redirect to https://new.example/internal" in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "9" * 400}, 300.0),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "1.5"}, 0.0),
        ({"Retry-After": "²"}, 0.0),
        ({}, 0.0),
        (
            {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            30.0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 300.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({"Retry-After": "Wed, 99 Foo 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_and_has_a_limit(
    headers: dict[str, str], seconds: float
) -> None:
    error = refusal(CALL, 503, headers, b"")

    assert isinstance(error, errors.Unavailable)
    assert error.retry_after == seconds


def test_the_server_s_wish_to_wait_reaches_the_error() -> None:
    error = refusal(CALL, 503, {"Retry-After": "12"}, told("store_unavailable"))

    assert isinstance(error, errors.Unavailable)
    assert error.retry_after == 12.0


def test_no_answer_names_the_innermost_cause() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as refused:
            raise requests.ConnectionError("<HTTPConnection at 0x7f>: …") from refused
    except requests.RequestException as outer:
        error = unreachable("https://compute.example", outer)

    assert error.message == "https://compute.example gave no answer: [Errno 111] Connection refused"
    assert error.retry_after == 0.0
