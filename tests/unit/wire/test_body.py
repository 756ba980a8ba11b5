"""How a body is read: what is refused, under which name, and which fields go with which priority."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

from gifty_compute.errors import InvalidRequest
from gifty_compute.wire.body import Body, Deliverable, parse
from gifty_compute.wire.classify import ClassifyPayload, ClassifyRequest
from gifty_compute.wire.embedding import EmbeddingPayload, EmbeddingRequest
from gifty_compute.wire.llm import ChatRequest
from gifty_compute.wire.rerank import RerankPayload, RerankRequest
from gifty_compute.wire.score import ScoreRequest
from gifty_compute.wire.task import Held, ResultRequest, SubmitRequest

REQUESTS: list[tuple[type[Deliverable], dict[str, Any]]] = [
    (EmbeddingRequest, {"input": "чай"}),
    (RerankRequest, {"query": "чай", "documents": ["кружка"]}),
    (ClassifyRequest, {"external_names": ["Чай"]}),
]
SUBMIT = {"task_type": "embedding", "payload": {"texts": ["чай"]}}
ID = "7f0c2a34-0000-4000-8000-000000000001"


def refusal(model: type[Body], value: Any, *, where: str = "") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, value, where=where)
    return caught.value


# -- naming --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[type[Body], Any, str | None, str]] = {
    # what is wrong: model, value, the error's param, its code
    "a field that nobody knows": (SubmitRequest, {**SUBMIT, "eta": 5}, "eta", "invalid_value"),
    "a missing field": (SubmitRequest, {"task_type": "embedding"}, "payload", "invalid_value"),
    "a list for an object": (SubmitRequest, [], None, "invalid_value"),
    "null": (SubmitRequest, None, None, "invalid_value"),
    "a number for text": (SubmitRequest, {**SUBMIT, "task_type": 5}, "task_type", "invalid_value"),
    "a list for a payload": (SubmitRequest, {**SUBMIT, "payload": []}, "payload", "invalid_value"),
    "text for a number": (SubmitRequest, {**SUBMIT, "max_attempts": "5"}, "max_attempts", "invalid_value"),
    "true for a number": (SubmitRequest, {**SUBMIT, "max_attempts": True}, "max_attempts", "invalid_value"),
    "a number out of range": (SubmitRequest, {**SUBMIT, "max_attempts": 21}, "max_attempts", "invalid_value"),
    "an unknown priority": (SubmitRequest, {**SUBMIT, "priority": "urgent"}, "priority", "invalid_value"),
    "NUL in a payload": (SubmitRequest, {**SUBMIT, "payload": {"a": "\x00"}}, "payload", "invalid_text"),
    "a deep payload": (
        SubmitRequest,
        {**SUBMIT, "payload": {"a": json.loads("[" * 90 + "]" * 90)}},
        "payload",
        "too_deep",
    ),
    "NUL in the second text": (EmbeddingPayload, {"texts": ["a", "\x00"]}, "texts.1", "invalid_text"),
    "a blank text": (EmbeddingPayload, {"texts": [" "]}, "texts.0", "empty_text"),
    "a number among texts": (EmbeddingPayload, {"texts": ["a", 5]}, "texts.1", "invalid_value"),
    "one text for many": (EmbeddingPayload, {"texts": "a"}, "texts", "invalid_value"),
    "no texts": (EmbeddingPayload, {"texts": []}, "texts", "invalid_value"),
    "2049 texts": (EmbeddingPayload, {"texts": ["a"] * 2049}, "texts", "invalid_value"),
    "too few ids": (EmbeddingPayload, {"texts": ["a", "b"], "ids": ["1"]}, "ids", "invalid_value"),
    "an unknown input type": (
        EmbeddingPayload,
        {"texts": ["a"], "input_type": "x"},
        "input_type",
        "invalid_value",
    ),
    "NUL among inputs": (EmbeddingRequest, {"input": ["a", "\x00"]}, "input.1", "invalid_text"),
    "a blank input": (EmbeddingRequest, {"input": ""}, "input.0", "empty_text"),
    "a number among inputs": (EmbeddingRequest, {"input": ["a", 5]}, "input.1", "invalid_value"),
    "a number for input": (EmbeddingRequest, {"input": 5}, "input", "invalid_value"),
    "no inputs": (EmbeddingRequest, {"input": []}, "input", "invalid_value"),
    "2049 inputs": (EmbeddingRequest, {"input": ["a"] * 2049}, "input", "invalid_value"),
    "an unknown encoding": (
        EmbeddingRequest,
        {"input": "a", "encoding_format": "hex"},
        "encoding_format",
        "invalid_value",
    ),
    "a blank query": (RerankPayload, {"query": "", "documents": ["a"]}, "query", "empty_text"),
    "no documents": (RerankPayload, {"query": "a", "documents": []}, "documents", "invalid_value"),
    "1001 documents": (
        RerankPayload,
        {"query": "a", "documents": ["a"] * 1001},
        "documents",
        "invalid_value",
    ),
    "none of the documents wanted": (RerankRequest, {**REQUESTS[1][1], "top_n": 0}, "top_n", "invalid_value"),
    "no names": (ClassifyPayload, {"external_names": []}, "external_names", "invalid_value"),
    "a blank category": (
        ClassifyPayload,
        {"external_names": ["a"], "internal_categories": [{"id": 1, "name": " "}]},
        "internal_categories.0.name",
        "empty_text",
    ),
    "no categories": (
        ClassifyPayload,
        {"external_names": ["a"], "internal_categories": []},
        "internal_categories",
        "invalid_value",
    ),
    "a picture among the parts of a message": (
        ChatRequest,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.image_url",
        "invalid_value",
    ),
    "a message of a number": (
        ChatRequest,
        {"messages": [{"role": "user", "content": 5}]},
        "messages.0.content",
        "invalid_value",
    ),
    "a blank message": (
        ChatRequest,
        {"messages": [{"role": "user", "content": " "}]},
        "messages.0.content",
        "empty_text",
    ),
    "five stops": (
        ChatRequest,
        {"messages": [{"role": "user", "content": "a"}], "stop": ["a"] * 5},
        "stop",
        "invalid_value",
    ),
    "a price that is a list": (ScoreRequest, {"title": "a", "price": []}, "price", "invalid_value"),
    "a category's id that is an object": (
        ClassifyPayload,
        {"external_names": ["a"], "internal_categories": [{"id": {}, "name": "b"}]},
        "internal_categories.0.id",
        "invalid_value",
    ),
    "a list in place of a body": (ScoreRequest, [], None, "invalid_value"),
    "attempt 0": (Held, {"id": ID, "attempt": 0}, "attempt", "invalid_value"),
    "an id that is none": (Held, {"id": "1" * 30, "attempt": 1}, "id", "invalid_value"),
    "progress past the end": (Held, {"id": ID, "attempt": 1, "progress": 1.5}, "progress", "invalid_value"),
    "progress of NaN": (
        Held,
        {"id": ID, "attempt": 1, "progress": float("nan")},
        "progress",
        "invalid_value",
    ),
    "NUL in an error": (ResultRequest, {"status": "failed", "error": "\x00"}, "error", "invalid_text"),
    "a status that no worker sets": (ResultRequest, {"status": "pending"}, "status", "invalid_value"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_breaks_a_rule_is_refused_under_its_fields_name(wrong: str) -> None:
    model, value, param, code = REFUSED[wrong]

    error = refusal(model, value)

    assert (error.param, error.code) == (param, code)
    assert error.message.startswith(f"{param or 'body'}: ")


def test_the_name_says_where_a_nested_body_stands() -> None:
    error = refusal(EmbeddingPayload, {"texts": ["a", " "]}, where="payload")

    assert error.param == "payload.texts.1"


def test_a_rule_over_two_fields_is_named_inside_a_nested_body_too() -> None:
    error = refusal(EmbeddingPayload, {"texts": ["a"], "ids": []}, where="payload")

    assert error.param == "payload.ids"


def test_a_nested_body_of_the_wrong_type_is_named_by_its_place() -> None:
    assert refusal(EmbeddingPayload, None, where="payload").param == "payload"


def test_no_value_is_quoted_in_the_message_or_in_a_traceback() -> None:
    error = refusal(EmbeddingPayload, {"texts": ["подарок Маше", 5], "secret-key": "подарок Пете"})

    assert "подарок" not in "".join(traceback.format_exception(error))


def test_a_body_that_was_read_cannot_be_changed() -> None:
    body = parse(SubmitRequest, SUBMIT)

    with pytest.raises(ValueError, match="frozen"):
        body.priority = "high"  # type: ignore[misc]


# -- priority ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "least"), REQUESTS)
def test_an_answer_is_wanted_at_once_unless_said_otherwise(
    model: type[Deliverable], least: dict[str, Any]
) -> None:
    assert parse(model, least).priority == "high"


@pytest.mark.parametrize(("model", "least"), REQUESTS)
@pytest.mark.parametrize(
    ("field", "value"),
    [("callback_url", "https://gifty.example/done"), ("metadata", {}), ("metadata", {"a": 1})],
)
def test_fields_of_a_task_go_with_priority_low_alone(
    model: type[Deliverable], least: dict[str, Any], field: str, value: Any
) -> None:
    low = parse(model, {**least, "priority": "low", field: value})
    error = refusal(model, {**least, field: value})

    assert getattr(low, field) == value
    assert (error.param, error.code) == (field, "wrong_priority")


@pytest.mark.parametrize(("model", "least"), REQUESTS)
def test_a_timeout_goes_with_priority_high_alone(model: type[Deliverable], least: dict[str, Any]) -> None:
    high = parse(model, {**least, "timeout_ms": 500})
    error = refusal(model, {**least, "priority": "low", "timeout_ms": 500})

    assert high.timeout_ms == 500
    assert (error.param, error.code) == ("timeout_ms", "wrong_priority")


@pytest.mark.parametrize(("field", "value"), [("top_n", 1), ("return_documents", False)])
def test_a_task_scores_all_documents(field: str, value: Any) -> None:
    least = REQUESTS[1][1]

    assert getattr(parse(RerankRequest, {**least, field: value}), field) == value
    error = refusal(RerankRequest, {**least, "priority": "low", field: value})
    assert (error.param, error.code) == (field, "wrong_priority")


@pytest.mark.parametrize("timeout", [0, -1, 600_001, 1.5, "500", True, float("inf")])
def test_a_timeout_is_a_whole_number_of_milliseconds_within_ten_minutes(timeout: Any) -> None:
    assert refusal(EmbeddingRequest, {"input": "a", "timeout_ms": timeout}).param == "timeout_ms"


# -- the same work as a task ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "body", "payload"),
    [
        (EmbeddingRequest, {"input": "чай"}, {"texts": ["чай"]}),
        (
            EmbeddingRequest,
            {"input": ["чай", "мёд"], "model": "bge-m3", "input_type": "query", "user": "u", "timeout_ms": 9},
            {"texts": ["чай", "мёд"], "model": "bge-m3", "input_type": "query"},
        ),
        (
            RerankRequest,
            {"query": "чай", "documents": ["мёд"], "model": "m", "top_n": 1},
            {"query": "чай", "documents": ["мёд"], "model": "m"},
        ),
        (ClassifyRequest, {"external_names": ["Чай"]}, {"external_names": ["Чай"]}),
        (
            ClassifyRequest,
            {"external_names": ["Чай"], "internal_categories": [{"id": 1, "name": "Еда"}]},
            {"external_names": ["Чай"], "internal_categories": [{"id": 1, "name": "Еда"}]},
        ),
    ],
)
def test_a_high_body_and_its_payload_say_the_same_work(
    model: type[Any], body: dict[str, Any], payload: dict[str, Any]
) -> None:
    assert parse(model, body).payload() == payload


# -- all bad positions of a list -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "field", "more"),
    [
        (EmbeddingRequest, "input", {}),
        (EmbeddingPayload, "texts", {}),
        (RerankRequest, "documents", {"query": "чай"}),
        (ClassifyRequest, "external_names", {}),
    ],
)
def test_all_bad_positions_of_a_list_are_named_at_once(
    model: type[Body], field: str, more: dict[str, Any]
) -> None:
    """F3: a caller that mends one text at a time would ask as often as there are empty ones."""
    refused = refusal(model, {field: ["чай", "", "мёд", " ", "\x00", ""], **more})

    assert (refused.param, refused.code) == (f"{field}.1", "empty_text")
    assert refused.message == (
        f"{field}.1, {field}.3, {field}.5: text is empty; {field}.4: text contains NUL (U+0000)"
    )


def test_the_bad_positions_that_are_named_are_bounded_and_the_others_counted() -> None:
    """F3: 2048 positions make no message."""
    refused = refusal(EmbeddingRequest, {"input": ["", *["a", ""] * 1000]})

    assert refused.message.startswith("input.0, input.2, input.4, ")
    assert refused.message.endswith(", input.38: text is empty; and 981 more")


def test_bad_positions_are_named_with_the_place_of_their_list() -> None:
    refused = refusal(EmbeddingPayload, {"texts": ["", "a", ""]}, where="payload")

    assert refused.param == "payload.texts.0"
    assert refused.message == "payload.texts.0, payload.texts.2: text is empty"


def test_an_error_elsewhere_is_not_counted_among_those_of_a_list() -> None:
    refused = refusal(RerankRequest, {"query": "", "documents": [""]})

    assert refused.message == "query: text is empty"
