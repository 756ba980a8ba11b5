"""What of another program's words operators may read: never the payload, never a secret, still the reason."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.redaction import LONGEST, redacted, texts_in

TEXT = "Подарок для Анны kanarejka5f1c, ул. Лесная 7"
REASONS = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 10234 tokens.",
    "json_schema: 'additionalProperties' must be false",
    "The engine is currently overloaded, please try again later",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
    "Недостаточно средств на балансе",
]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_that_holds_nothing_of_the_payload_stays_as_it_is(reason: str) -> None:
    assert redacted(reason, payload=[TEXT, "assistant", "user"], secrets=["sk-0123456789"]) == reason


@pytest.mark.parametrize(
    "echo",
    [
        TEXT,
        TEXT.upper(),
        TEXT.replace(" ", "\n  "),
        json.dumps(TEXT),
        json.dumps(json.dumps(TEXT)),
        quote(TEXT),
        TEXT[3:20],
        f"{TEXT[:8]}...{TEXT[-9:]}",
        "Анны",
        "kanarejka5f1c",
        repr({"content": TEXT}),
    ],
)
def test_whatever_way_the_payload_is_quoted_it_is_cut(echo: str) -> None:
    found = redacted(f"invalid input: {echo} (400)", payload=[TEXT])

    assert found is not None
    assert "invalid input" in found
    for word in ("подарок", "анны", "лесная", "kanarejka", "0410"):
        assert word not in found.lower()


@given(
    payload=st.text(alphabet="абвгд ежзиклмн", min_size=12, max_size=80),
    before=st.text(alphabet="abcdef ", max_size=30),
    data=st.data(),
)
def test_no_run_of_the_payload_is_ever_told(payload: str, before: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(payload) - 12))
    end = data.draw(st.integers(start + 12, len(payload)))

    found = redacted(f"{before}{payload[start:end]}{before}", payload=["что-то другое", payload]) or ""

    line = " ".join(payload.split())
    assert not any(line[at : at + 12] in found for at in range(max(0, len(line) - 11)))


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: sk-proj-abcd1234. You can find your key at https://x.test/keys.",
        "Authorization: Bearer abcdef123456 is wrong",
        '{"api_key": "abcdef123456"} was sent',
        "the key own-secret-key-1 is unknown",
        "the key own-sec…, cut to own-secret",
        "see http://user:hunter2hunter@h.test/v1?key=abcdef123456",
        "write to anna@example.org",
        "wrong key abcd****6789",
        "request 6f1c2d3e4f5061728394a5b6c7d8e9f0 failed",
    ],
)
def test_no_secret_is_told(said: str) -> None:
    found = redacted(said, secrets=["own-secret-key-1"]) or ""

    for secret in ("abcd", "own-secret", "hunter", "anna@", "6789", "6f1c2d"):
        assert secret not in found


def test_a_word_to_keep_stays_though_the_payload_or_a_pattern_has_it() -> None:
    model = "claude-sonnet-4-5-20250929"

    assert redacted(f"model: {model}", payload=[model], keep=[model]) == f"model: {model}"


def test_it_is_one_short_line() -> None:
    found = redacted("a\x00b\n\x1b[31m" + "word " * 1000)

    assert found is not None
    assert len(found) <= LONGEST
    assert found.isprintable()


def test_of_a_long_text_nothing_is_told_that_begins_behind_what_is_looked_at() -> None:
    long = "x " * 494 + TEXT

    assert "Подарок" not in (redacted(long, payload=[TEXT]) or "")


@pytest.mark.parametrize("said", ["", "   ", "***", TEXT, "…"])
def test_where_nothing_is_left_there_is_no_reason(said: str) -> None:
    assert redacted(said, payload=[TEXT]) is None


def test_every_text_and_number_of_a_payload_is_found() -> None:
    payload = {"a": [{"b": "x", "Имя поля": 5}], "c": 1.5, "d": None, "e": True}

    assert list(texts_in(payload)) == ["x", "Имя поля", "5", "1.5"]
