"""Attacks 2 and 3: a refusal costs no more than an acceptance. Every model of a body is held to it."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

import api  # noqa: F401  # its views register the operations
from api.operation import operations
from gifty_compute.errors import InvalidRequest, TooLarge
from gifty_compute.wire.body import MOST_TEXTS, parse
from gifty_compute.wire.json import read_json
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import HeartbeatRequest, Outcome, SubmitRequest
from gifty_compute.wire.weight import weight

MODELS = sorted(
    {
        *(body for found in operations.values() for body in (found.body, found.lines, found.query) if body),
        *(kind.payload for kind in KINDS.values()),
        Outcome,  # each of a call is parsed alone
    },
    key=lambda model: model.__qualname__,
)
_VALIDATORS = ("function-after", "no-info")
BODIES = [model for model in MODELS if not model.__name__.endswith(("Query", "Options"))]


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for name, value in schema.items():
            if name != "json_schema_input_schema":  # for the document; nothing is validated by it
                yield from schemas(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from schemas(value)


def parts(model: type[BaseModel], type_: str) -> list[dict[str, Any]]:
    return [part for part in schemas(model.__pydantic_core_schema__) if part["type"] == type_]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_list_is_bounded_and_given_up_at_its_first_bad_element(model: type[BaseModel]) -> None:
    """But for lists of texts: all that are bad are named, and their number is bounded."""
    for part in parts(model, "list"):
        assert part.get("max_length"), f"{model.__name__}: a list needs a max_length"
        holds_texts = {inner["type"] for inner in schemas(part["items_schema"])} <= {"str", *_VALIDATORS}
        if not (holds_texts and part["max_length"] <= MOST_TEXTS):
            assert part.get("fail_fast"), f"{model.__name__}: write Many[...] for a list"


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_every_object_gives_up_at_its_first_unknown_name(model: type[BaseModel]) -> None:
    models = {part["cls"] for part in parts(model, "model")}

    assert model in models
    for one in models:
        with pytest.raises(InvalidRequest, match="Extra inputs are not permitted") as refused:
            parse(one, dict.fromkeys(map(str, range(100))))
        assert refused.value.param == "0"
        assert len(refused.value.__cause__.errors()) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_what_pydantic_collects_does_not_grow_with_the_body(model: type[BaseModel]) -> None:
    """Each field is given many of what its elements cannot be, and of what they can."""
    for name, info in model.model_fields.items():
        for element in (None, 0, "", "a", {}, [], {"id": 1}):
            counts = [_errors(model, {info.alias or name: [element] * many}) for many in (10, 3000)]
            assert counts[1] <= counts[0] + 1, (name, element)


def _errors(model: type[BaseModel], value: Any) -> int:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error.error_count()
    return 0


def test_a_refused_list_of_nulls_takes_no_memory() -> None:
    """Attack 2: a million of them were two gigabytes."""
    body = read_json(b'{"texts":["a"],"ids":[' + b",".join([b"null"] * 300_000) + b"]}")

    grown = _memory_of(lambda: parse(KINDS["embedding"].payload, body))

    assert grown < 100_000


def test_refused_names_take_no_memory() -> None:
    """Attack 3."""
    body = {f"{n:06x}": 0 for n in range(100_000)}

    assert _memory_of(lambda: parse(HeartbeatRequest, body)) < 100_000
    assert _memory_of(lambda: parse(SubmitRequest, body)) < 100_000


def _memory_of(refused: Any) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_unknown_name_is_shown_and_cut() -> None:
    with pytest.raises(InvalidRequest) as short:
        parse(SubmitRequest, {"task_type": "embedding", "payload": {}, "mood": 1})
    with pytest.raises(InvalidRequest) as long:
        parse(SubmitRequest, {"k" * 1_000_000: 1})
    with pytest.raises(InvalidRequest) as inside:
        parse(HeartbeatRequest, {"worker_id": "w", "tasks": [{"mood": 1}]})

    assert short.value.param == "mood"
    assert len(long.value.message) < 200
    assert inside.value.param == "tasks.0.mood"


@pytest.mark.parametrize("field", ["metadata", "info"])
def test_what_says_something_of_a_request_holds_few_values(field: str) -> None:
    model, least = {
        "metadata": (SubmitRequest, {"task_type": "embedding", "payload": {}}),
        "info": (HeartbeatRequest, {"worker_id": "w", "tasks": []}),
    }[field]
    few, many = {"a": [0] * 4000}, {"a": [[0] * 10] * 500}

    parse(model, {**least, field: few})  # type: ignore[type-var]
    with pytest.raises(InvalidRequest, match="4096 values") as refused:
        parse(model, {**least, field: many})  # type: ignore[type-var]

    assert refused.value.param == field


LARGEST = 5 * 2**20
"""Of which the values may take 32 MiB."""
HEAVY = {
    "empty lists": (b"[]", 400_000),
    "empty objects": (b"{}", 400_000),
    "nested lists": (b"[[[]]]", 150_000),
    "objects of one name": (b'{"a":1}', 150_000),
    "short words": (b'"a"', 600_000),
    "one digit each": (b"1", 1_100_000),
}
WELCOME = {
    "a text of brackets": lambda: b'["' + b"[{,:" * 1_200_000 + b'"]',
    "a text of escaped quotes": lambda: b'["' + rb"\"[,\\" * 800_000 + b'"]',
    "vectors": lambda: _list(_list(b"-0.0123456", 1024), 450),
    "2048 long texts": lambda: orjson.dumps(["чай, кофе: [и] " * 100] * 2048),
}


def _list(element: bytes, many: int) -> bytes:
    return b"[" + b",".join([element] * many) + b"]"


@pytest.mark.parametrize("name", HEAVY)
def test_a_body_of_too_many_values_is_refused_before_any_is_made(name: str) -> None:
    body = _list(*HEAVY[name])
    refused = functools.partial(read_json, body, largest=LARGEST)

    assert len(body) <= LARGEST
    assert _memory_of(refused) < 2 * LARGEST
    with pytest.raises(TooLarge, match="too many values"):
        refused()


@pytest.mark.parametrize("name", WELCOME)
def test_a_body_of_large_values_is_read(name: str) -> None:
    body = WELCOME[name]()
    assert 3_000_000 <= len(body) <= LARGEST

    assert read_json(body, largest=LARGEST) == orjson.loads(body)


def test_small_bodies_may_be_of_anything() -> None:
    assert len(read_json(b"[" + b",".join([b"{}"] * 100_000) + b"]", largest=1024)) == 100_000


@pytest.mark.parametrize("piece", [b'"a,b"', b'"\\",["', b'"\\\\"', b'"[[{{::"', b"1.5", b'{"a":[]}'])
def test_what_is_in_strings_does_not_weigh_wherever_the_pieces_of_the_count_end(piece: bytes) -> None:
    many, own = 200_000, {b'"': 32, b"1": 0, b"{": 126 + 240}[piece[:1]]
    data = b"[" + b",".join([piece] * many) + b"]"
    all_together = weight(data, 10**12)

    assert weight(data, all_together) == pytest.approx(many * (32 + own), rel=0.001)
