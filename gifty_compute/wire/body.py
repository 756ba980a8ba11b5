"""The base of all request bodies: unknown fields are refused, types are not bent.

A refusal costs no more than an acceptance: validation stops at the first name that a model does not have,
and at the first bad element of a list, except for bounded lists of texts. pydantic alone collects an error
for each, about a kilobyte, and all threads wait meanwhile. `tests/unit/wire/test_bounds.py` holds every model
to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from gifty_compute.errors import InvalidRequest, MalformedBody
from gifty_compute.wire.text import SmallObject

__all__ = ["MOST_TEXTS", "Body", "Deliverable", "Many", "Priority", "parse", "refuse_unknown"]

Priority = Literal["low", "high"]

_M = TypeVar("_M", bound=BaseModel)
_LONGEST_NAME = 60


class _FailFast(FailFast):
    # pydantic's own cannot stand in a type that may be None: unions hash what they are made of.
    __hash__ = object.__hash__


_Item = TypeVar("_Item")
Many = Annotated[list[_Item], _FailFast()]
"""A list whose validation ends at its first bad element. A field of it has a `max_length`.

A plain `list[Text]` with a `max_length` of at most MOST_TEXTS is the exception: its caller is told all bad
positions at once, and 2,048 of them take 6 ms.
"""
MOST_TEXTS = 2048


class Body(BaseModel):
    """A JSON object that a caller sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_field(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_unknown(cls, value)
        return value


class Deliverable(Body):
    """When and how the answer is wanted; these fields ride along with every high-priority path."""

    priority: Priority = "high"
    timeout_ms: int | None = Field(default=None, ge=1, le=600_000)
    callback_url: str | None = Field(default=None, max_length=2048)
    metadata: SmallObject | None = None

    @model_validator(mode="after")
    def _fields_fit_the_priority(self) -> Any:
        strangers = ("callback_url", "metadata") if self.priority == "high" else ("timeout_ms",)
        for field in strangers:
            if getattr(self, field) is not None:
                raise PydanticCustomError(
                    "wrong_priority",
                    "{field} does not go with priority {priority}",
                    {"field": field, "priority": self.priority, "param": field},
                )
        return self


def refuse_unknown(model: type[BaseModel], names: Iterable[str]) -> None:
    """Raises PydanticCustomError for the first of these that is no field of the model."""
    known = _names(model)
    for name in names:
        if name not in known:
            short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
            raise PydanticCustomError("unknown_field", "Extra inputs are not permitted", {"param": short})


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(info.alias or name for name, info in model.model_fields.items())


def parse(model: type[_M], value: Any, *, where: str = "") -> _M:
    """The value as this model.

    Raises InvalidRequest (MalformedBody: nested too deep) naming the first field that breaks a rule, and in
    a list of texts all positions that do, up to twenty. Values are not quoted: a caller's text may be
    private.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        first = _telling(errors)
        context = first.get("ctx", {})
        place = _place(first)
        if not place or first["type"] == "unknown_field":
            place += [context["param"]] if "param" in context else []
        path = ".".join(place)
        param = f"{where}.{path}".strip(".") or None
        code = first["type"] if first["type"] in _OUR_CODES else None
        said = "must be a JSON object" if first["type"] == "model_type" else first["msg"]
        alike = [one for one in errors if one is not first and _is_alike(one, first)]
        message = _listed(alike, param or "", said, where) if alike else f"{param or 'body'}: {said}"
        kind = MalformedBody if code == "too_deep" else InvalidRequest
        raise kind(message, param=param, code=code) from error


def _is_alike(error: ErrorDetails, first: ErrorDetails) -> bool:
    """Whether it is at the same place as the first, but for positions in lists."""
    places = [[part for part in found["loc"] if type(part) is str] for found in (error, first)]
    return places[0] == places[1] and len(error["loc"]) == len(first["loc"])


def _listed(alike: list[ErrorDetails], param: str, said: str, where: str) -> str:
    """What is wrong at each position of a list, so that a caller can mend all of them at once."""
    positions = {said: [param]}
    for error in alike[: _MOST_POSITIONS - 1]:
        positions.setdefault(error["msg"], []).append(".".join([where, *_place(error)]).strip("."))
    told = "; ".join(f"{', '.join(places)}: {what}" for what, places in positions.items())
    left_out = len(alike) + 1 - _MOST_POSITIONS
    return f"{told}; and {left_out} more" if left_out > 0 else told


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; for a field of several types, each of which complains, that of the likeliest.

    It is the one that got furthest into the value.
    """
    first = errors[0]
    place = _place(first)
    if len(place) == len(first["loc"]):
        return first
    return max((e for e in errors if _place(e)[: len(place)] == place), key=lambda e: len(_place(e)))


def _place(error: ErrorDetails) -> list[str]:
    """Where it is, in the caller's words: the types that a field may be of stand there, too."""
    return [str(part) for part in error["loc"] if "[" not in str(part) and part not in _TYPES]


_MOST_POSITIONS = 20
_TYPES = frozenset({"bool", "float", "int", "str"})
_OUR_CODES = frozenset({"invalid_text", "empty_text", "too_deep", "text_too_long", "wrong_priority"})
