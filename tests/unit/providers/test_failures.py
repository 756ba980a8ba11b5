"""The classes that hold for all providers, the waits that headers ask for, and what a rejection tells."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.errors import Failure, TransportError
from gifty_compute.providers.failures import by_status, by_transport, not_served, retry_after, word
from gifty_compute.providers.rejection import Rejection
from tests.unit.providers.scripted import answered, asking

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ASK = asking("together", "llm", {"messages": []})


def test_a_429_is_worth_another_try_only_when_it_names_a_time() -> None:
    assert by_status(429).failure is Failure.FAILOVER
    assert by_status(429, wait=0.0).failure is Failure.RETRY
    assert by_status(429, wait=3.0).retry_after == 3.0


def test_a_providers_own_word_comes_before_the_status() -> None:
    error = by_status(429, failure=Failure.CONFIG, code="daily_quota")

    assert (error.failure, error.code) == (Failure.CONFIG, "daily_quota")


@pytest.mark.parametrize("status", [100, 204, 301, 418, 451, 499, 599])
def test_a_status_that_nobody_told_us_of_is_a_failover(status: int) -> None:
    error = by_status(status)

    assert (error.failure, error.code) == (Failure.FAILOVER, f"http_{status}")


def test_only_what_was_never_sent_may_be_sent_there_again() -> None:
    assert by_transport(TransportError(code="connect_failed", sent=False)).failure is Failure.RETRY
    assert by_transport(TransportError(code="timeout", sent=True)).failure is Failure.FAILOVER


def test_work_without_words_for_it_is_the_requests_fault_and_names_the_provider() -> None:
    error = not_served(asking("groq", "rerank", {}))

    assert (error.code, error.message) == ("not_served", "groq does not do rerank")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": format_datetime(datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC), usegmt=True)}, 30.0),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30"}, 30.0),
        ({"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}, 0.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "Sun, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "Sun, 01 Nov 99999999999999999999 12:00:30 GMT"}, None),
    ],
)
def test_a_wait_is_read_from_whatever_header_names_it(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOON) == seconds


@given(st.text(max_size=60))
def test_no_header_is_too_odd_to_be_read(said: str) -> None:
    found = retry_after({"retry-after": said, "retry-after-ms": said}, NOON)

    assert found is None or found >= 0


@pytest.mark.parametrize("said", ["чайник", "two words", "", "9lives", "a" * 61, 7, None, ["x"]])
def test_what_could_quote_somebody_is_no_word(said: Any) -> None:
    assert word(said) is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "oops"}},
        [{"error": {"code": "oops"}}],
        {"object": "error", "message": "…", "code": "oops"},
    ],
    ids=["wrapped", "in a list of one", "bare"],
)
def test_the_error_object_is_found_in_whatever_it_is_wrapped(body: Any) -> None:
    rejection = Rejection.of(answered(body, 400), ASK)

    assert rejection.says("code") == "oops"


def test_the_providers_text_is_not_in_the_rejections_repr() -> None:
    rejection = Rejection.of(answered({"error": {"message": "чайник"}}, 400), ASK)

    assert "чайник" not in repr(rejection)
    assert rejection.begins("чай")


def test_an_error_inside_an_answer_has_the_status_that_it_names() -> None:
    assert Rejection.inside({"code": 429}, ASK).status == 429
    assert Rejection.inside({"code": "oops", "http_status": 503}, ASK).status == 503


@pytest.mark.parametrize(
    "error", [{"code": "oops"}, {"code": True}, {"code": 200}, {"code": 9999}, "text", 7]
)
def test_an_error_inside_an_answer_that_names_no_status_is_a_failover(error: Any) -> None:
    told = Rejection.inside(error, ASK).become()

    assert (told.failure, told.code) == (Failure.FAILOVER, "error_inside")


def test_a_wait_in_the_body_replaces_that_of_the_headers() -> None:
    rejection = Rejection.of(answered({}, 429, {"retry-after": "9"}), ASK)

    assert rejection.waiting(2.0).become().retry_after == 2.0
    assert rejection.waiting(None).become().retry_after == 9.0


def test_a_provider_that_asks_not_to_be_tried_again_is_not() -> None:
    headers = {"x-should-retry": "false", "retry-after": "1"}

    assert Rejection.of(answered({}, 500, headers), ASK).become().failure is Failure.FAILOVER
    assert Rejection.of(answered({}, 400, headers), ASK).become().failure is Failure.FATAL


@pytest.mark.parametrize("body", [b"<html><body>503</body></html>", b""])
@pytest.mark.parametrize("status", [429, 503])
def test_a_page_that_no_provider_wrote_is_believed_for_a_minute(body: bytes, status: int) -> None:
    """P31: a proxy's page with Retry-After 3600."""
    rejection = Rejection.of(answered(body, status, {"retry-after": "3600"}), ASK)

    assert rejection.become().retry_after == 60
    assert Rejection.of(answered(body, status, {"retry-after": "7"}), ASK).become().retry_after == 7


def test_a_provider_that_asks_for_an_hour_in_its_own_form_is_told_on() -> None:
    rejection = Rejection.of(answered({"error": {"message": "busy"}}, 429, {"retry-after": "3600"}), ASK)

    assert rejection.become().retry_after == 3600
