"""What callers check before they knock, and read from what comes back."""

from __future__ import annotations

import pytest

from gifty_compute.door import checked_token, checked_url, innermost, retry_after
from gifty_compute.errors import InvalidConfig


def test_an_address_is_taken_without_the_slash_at_its_end() -> None:
    assert checked_url(" https://compute.example.org/gifty/ ") == "https://compute.example.org/gifty"
    assert checked_url("http://[::1]:8000") == "http://[::1]:8000"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "compute.example.org",
        "localhost:8000",
        "ftp://x",
        "ftp://me:secret@x",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://[::1",
        "https://me:secret@h",
        "https://h/?a=secret",
        "https://h/#secret",
        "h/?key=secret",
        "ftp://h/?key=secret",
    ],
)
def test_what_is_no_address_is_refused_and_a_password_in_it_is_not_quoted(url: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        checked_url(url)

    assert "secret" not in refused.value.message


@pytest.mark.parametrize("token", ["", "two words", "line-end\n", "ключ", "a\x00b"])
def test_a_token_that_fits_no_header_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        checked_token(token)

    assert not token or token not in refused.value.message


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("3600", 3600.0), ("0", 0.0), ("-5", None), ("soon", None), ("", None)]
)
def test_retry_after_is_what_the_answer_says(value: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_a_date_is_seconds_from_the_answers_own_date() -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"

    assert retry_after({"Retry-After": "Wed, 21 Oct 2026 08:28:00 GMT", "Date": date}) == 3600
    assert retry_after({"Retry-After": date, "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}) == 0
    assert retry_after({"Retry-After": date}) is None


def test_the_innermost_cause_of_an_error_is_named() -> None:
    outer = RuntimeError("<HTTPConnection at 0x7f>")
    outer.__cause__ = ConnectionRefusedError(111, "Connection refused")

    assert innermost(outer) == "[Errno 111] Connection refused"
