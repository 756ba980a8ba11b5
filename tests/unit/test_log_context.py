"""Friction 3: whose work a line of the log is about, in every thread that does some of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Generator
from typing import Any

from gifty_compute.logging import InContext, JsonLines, carried, log_context, set_log_context


def told(**extra: Any) -> dict[str, Any]:
    """The fields of a line that is written now."""
    record = logging.makeLogRecord({"msg": "x", **extra})
    line: dict[str, Any] = json.loads(JsonLines().format(record))
    return {name: line[name] for name in ("request_id", "client") if name in line}


def test_lines_have_the_fields_of_the_block_they_are_written_in() -> None:
    with log_context(request_id="r1"):
        with log_context(client="shop"):
            inner = told()
        outer = told()

    assert inner == {"request_id": "r1", "client": "shop"}
    assert outer == {"request_id": "r1"}
    assert told() == {}


def test_what_a_line_says_itself_wins() -> None:
    with log_context(request_id="r1"):
        assert told(request_id="r2") == {"request_id": "r2"}


def test_a_new_request_has_nothing_of_the_one_before() -> None:
    with log_context():
        set_log_context(request_id="r1", client="shop")
        set_log_context(request_id="r2")

        assert told() == {"request_id": "r2"}


def test_a_function_for_another_thread_takes_the_fields_along() -> None:
    found: list[dict[str, Any]] = []
    with log_context(request_id="r1"):
        run = carried(lambda: found.append(told()))

    for target in (run, lambda: found.append(told())):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join(10)

    assert found == [{"request_id": "r1"}, {}]


def test_a_streamed_answer_has_them_in_whatever_thread_it_is_sent_and_closed() -> None:
    found: list[dict[str, Any]] = []

    def pieces() -> Generator[bytes, None, None]:
        try:
            found.append(told())
            yield b"a"
            found.append(told())
            yield b"b"
        finally:
            found.append(told())

    with log_context(request_id="r1"):
        body = InContext(pieces())

    with log_context(request_id="another"):
        assert next(body) == b"a"
        between = told()
        assert next(body) == b"b"
        body.close()

    assert found == [{"request_id": "r1"}] * 3
    assert between == {"request_id": "another"}
