"""A record as one line of JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from gifty_compute.logging import JsonLines


def line(*arguments: Any, **fields: Any) -> dict[str, Any]:
    """What the formatter makes of a record with this message, these arguments and attributes."""
    message, *rest = arguments
    record = logging.LogRecord("gifty_compute.test", logging.WARNING, __file__, 1, message, tuple(rest), None)
    vars(record).update(fields)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_what_how_grave_who_and_when() -> None:
    assert line("circuit %s is open", "groq", created=0.25) == {
        "event": "circuit groq is open",
        "level": "warning",
        "logger": "gifty_compute.test",
        "timestamp": "1970-01-01T00:00:00.250000Z",
    }


def test_extra_fields_stand_beside_the_event() -> None:
    assert line("worked", done=2)["done"] == 2


def test_a_field_that_is_no_json_is_told_by_its_text() -> None:
    assert line("x", place=ValueError("чай"))["place"] == "чай"


def test_an_exception_is_part_of_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        told = line("a pass failed", exc_info=sys.exc_info())

    assert "ValueError: broken" in told["exception"]


def test_russian_is_readable_in_the_log() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "чай", (), None)

    assert "чай" in JsonLines().format(record)
