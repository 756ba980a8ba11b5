"""Lines on their way in, and results on their way out: cut anywhere, packed in little memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from gifty_compute.client.errors import Busy, ServiceFault, Unreachable
from gifty_compute.client.lines import Lines, Packed
from gifty_compute.client.results import ResultLines


def line_of(position: int, **fields: Any) -> bytes:
    said = {
        "id": f"task-{position}",
        "position": position,
        "task_type": "llm",
        "status": "failed",
        "result": None,
        "error": "чай",
        "metadata": None,
    }
    return json.dumps({**said, **fields}, ensure_ascii=False).encode() + b"\n"


def test_packed_lines_are_one_member_of_gzip_and_may_be_read_twice() -> None:
    with Packed() as packed:
        packed.add(Lines().embeddings(["чай"], metadata={"n": 1}))
        packed.add({"task_type": "x", "payload": {"half": "\ud800"}})
        first, again = b"".join(packed.seal()), b"".join(packed)

        assert len(packed) == len(first)
    assert first == again
    lines = gzip.decompress(first).splitlines()
    assert json.loads(lines[0]) == {
        "task_type": "embedding",
        "payload": {"texts": ["чай"]},
        "metadata": {"n": 1},
    }
    assert json.loads(lines[1])["payload"] == {"half": "\ud800"}


def test_any_number_of_lines_is_packed_in_little_memory() -> None:
    with Packed() as packed:
        tracemalloc.start()
        for number in range(20_000):
            packed.add({"n": number, "text": str(number) * 100})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(packed.seal()) > 0
    assert peak < 6 * 2**20


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with Packed() as packed, pytest.raises(ValueError, match="JSON"):
        packed.add({"n": float("nan")})


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_results_may_be_cut_anywhere(size: int) -> None:
    data = b"".join(line_of(n) for n in range(5))
    lines = ResultLines()

    found = [one for start in range(0, len(data), size) for one in lines.feed(data[start : start + size])]

    lines.end()
    assert [one.position for one in found] == [0, 1, 2, 3, 4]
    assert (found[0].task_id, found[0].error, found[0].value) == ("task-0", "чай", None)
    assert lines.next == 5


def test_a_stream_that_ends_within_a_line_is_broken_and_the_next_begins_with_that_line() -> None:
    lines = ResultLines()
    list(lines.feed(line_of(0) + line_of(1)[:10]))

    with pytest.raises(Unreachable, match="position 1") as broken:
        lines.end()

    assert lines.may_go_on(broken.value)
    lines.begin()
    assert [one.position for one in lines.feed(line_of(1))] == [1]


def test_an_error_in_the_last_line_is_the_services_own() -> None:
    told = {"error": {"type": "unavailable_error", "code": "store_unavailable", "message": "gone"}}
    lines = ResultLines(first=3)

    with pytest.raises(Busy, match="gone") as error:
        list(lines.feed(line_of(3) + json.dumps(told).encode() + b"\n"))

    assert lines.may_go_on(error.value)
    lines.begin()
    assert not lines.may_go_on(error.value)


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b"{}\n", b"1\n", line_of(0, result={"x": 1})])
def test_a_line_that_is_not_the_contracts_is_a_fault(line: bytes) -> None:
    with pytest.raises(ServiceFault, match="contract") as fault:
        list(ResultLines().feed(line))

    assert not ResultLines().may_go_on(fault.value)


def test_a_long_line_in_many_pieces_is_joined_once() -> None:
    text = "a" * 20_000_000
    data = line_of(0, error=text)
    lines = ResultLines()

    found = [one for start in range(0, len(data), 65536) for one in lines.feed(data[start : start + 65536])]

    assert len(found[0].error or "") == len(text)
