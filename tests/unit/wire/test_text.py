"""Which text, and which JSON, may reach PostgreSQL and a model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from gifty_compute.wire.text import MAX_DEPTH, CleanText, Text, clean_json

TEXT: TypeAdapter[str] = TypeAdapter(Text)
CLEAN: TypeAdapter[str] = TypeAdapter(CleanText)


def nested(levels: int, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """So many containers in one another around a number."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


def type_of_error(adapter: TypeAdapter[str], value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value, strict=True)
    return caught.value.errors()[0]["type"]


@pytest.mark.parametrize(
    "value",
    ["чай", " чай ", "👨‍👩‍👧", "\U0010ffff", "\ufeffчай", "a\r\n\tb", "a\x1f", "\ufffe", "é", "x" * 32_768],
)
def test_good_text_comes_through_as_it_is(value: str) -> None:
    assert TEXT.validate_python(value) == value


@pytest.mark.parametrize(
    "value", ["\x00", "чай\x00", "a\x00b", "\ud800", "чай\udfff", "\udc00\ud800", "a" * 1000 + "\ud83d"]
)
def test_nul_and_lone_surrogates_are_invalid_text(value: str) -> None:
    assert type_of_error(TEXT, value) == "invalid_text"
    assert type_of_error(CLEAN, value) == "invalid_text"


@pytest.mark.parametrize("value", ["", " ", "\n\t ", "\u00a0", "\u2003"])
def test_blank_text_is_empty_text_where_text_must_be_filled(value: str) -> None:
    assert type_of_error(TEXT, value) == "empty_text"
    assert CLEAN.validate_python(value) == value


@pytest.mark.parametrize("value", [5, None, True, b"bytes", ["a"], {}])
def test_what_is_no_text_is_not_made_into_text(value: Any) -> None:
    assert type_of_error(TEXT, value) == "string_type"


@given(st.text())
def test_text_that_utf8_can_write_is_refused_for_nul_alone(value: str) -> None:
    if "\x00" in value:
        assert type_of_error(CLEAN, value) == "invalid_text"
    else:
        assert CLEAN.validate_python(value) == value


@given(st.text(alphabet=st.characters(), min_size=1))
def test_what_is_taken_can_be_written(value: str) -> None:
    try:
        taken = CLEAN.validate_python(value)
    except ValidationError:
        return

    assert orjson.loads(orjson.dumps(taken)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": "\x00"},
        {"\x00": 1},
        {"a": [{"b": ["fine", "\ud800"]}]},
        {"a": {"\udfff": None}},
        ["\x00"],
        "\x00",
    ],
)
def test_bad_text_anywhere_in_json_is_found(value: Any) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        clean_json(value)

    assert caught.value.type == "invalid_text"


@pytest.mark.parametrize("value", [{}, [], {"a": [1, 2.5, None, True, "б", {"c": []}]}, 5, None, "чай"])
def test_good_json_comes_through_as_it_is(value: Any) -> None:
    assert clean_json(value) == value


@pytest.mark.parametrize("kind", [list, dict])
def test_nesting_up_to_the_limit_is_taken_and_one_more_is_too_deep(kind: Any) -> None:
    deepest = nested(MAX_DEPTH - 1, kind)

    assert clean_json(deepest) == deepest
    with pytest.raises(PydanticCustomError) as caught:
        clean_json(nested(MAX_DEPTH, kind))
    assert caught.value.type == "too_deep"


def test_nesting_far_past_the_limit_costs_no_recursion() -> None:
    with pytest.raises(PydanticCustomError, match="64 levels"):
        clean_json(nested(100_000, list))


def test_what_is_deep_enough_to_be_taken_can_be_written_inside_an_answer() -> None:
    deepest = clean_json(nested(MAX_DEPTH - 1, dict))

    assert orjson.dumps({"tasks": [{"payload": deepest}]})
