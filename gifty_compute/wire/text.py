"""Text that may reach PostgreSQL and a model: no NUL, no lone surrogate, not blank."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

__all__ = ["CleanText", "JsonObject", "SmallObject", "Text", "clean_json", "is_blank"]

# orjson writes at most 254 levels; what is stored must be writable again inside an answer's own levels.
MAX_DEPTH = 64
# bge-m3 reads 8,192 tokens, about this many characters. A model that windows would hold a worker for minutes.
MAX_TEXT = 32_768
MAX_VALUES_OF_A_SMALL_OBJECT = 4096
_WITHOUT_TEXT = frozenset({int, float, bool, type(None)})


def _refuse_flawed(value: str) -> None:
    if "\x00" in value:
        raise PydanticCustomError("invalid_text", "text contains NUL (U+0000)")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("invalid_text", "text contains a lone surrogate") from error


def _clean(value: str) -> str:
    if not value.isascii() or "\x00" in value:
        _refuse_flawed(value)
    return value


def is_blank(text: str) -> bool:
    """Whether a text has nothing in it that a model could read.

    >>> is_blank(" \\n"), is_blank("чай")
    (True, False)
    """
    return not text.strip()


def _filled(value: str) -> str:
    if len(value) > MAX_TEXT:
        raise PydanticCustomError("text_too_long", f"text is longer than {MAX_TEXT} characters")
    if is_blank(value):
        raise PydanticCustomError("empty_text", "text is empty")
    return value


def clean_json(value: Any) -> Any:
    """The same JSON value, or an error: text that PostgreSQL refuses, or nesting past 64 levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if not item:
                continue
            if isinstance(item, str):
                # As in `_clean`, whose call would double what this loop costs.
                if not item.isascii() or "\x00" in item:
                    _refuse_flawed(item)
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                # One stands for all where there are only numbers, as in a vector: none can be refused.
                below += item[:1] if _WITHOUT_TEXT.issuperset(map(type, item)) else item
        if not below:
            return value
        level = below
    raise PydanticCustomError("too_deep", "nested deeper than 64 levels")


def _small(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    values = 0
    while level:
        item = level.pop()
        if isinstance(item, dict | list):
            values += len(item)
            if values > MAX_VALUES_OF_A_SMALL_OBJECT:
                message = f"an object here holds {MAX_VALUES_OF_A_SMALL_OBJECT} values at most"
                raise PydanticCustomError("too_many_values", message)
            level += item.values() if isinstance(item, dict) else item
    return value


class _Shown:
    """How the rule of a validator is written in JSON Schema, where a document is made of the models."""

    def __init__(self, **schema: Any) -> None:
        self._schema = schema

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**self._schema, **handler(core)}


CleanText = Annotated[str, AfterValidator(_clean)]
Text = Annotated[
    str,
    AfterValidator(_clean),
    AfterValidator(_filled),
    _Shown(minLength=1, maxLength=MAX_TEXT, pattern=r"\S"),
]
JsonObject = Annotated[dict[str, Any], AfterValidator(clean_json)]
"""Any JSON object; how many values it holds is bounded by what a body may weigh."""
SmallObject = Annotated[dict[str, Any], AfterValidator(_small), AfterValidator(clean_json)]
"""A JSON object of few values, that says something about a request."""
