"""Task types that logic.yaml declares."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig, InvalidRequest, InvalidResult
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.queue.placing import placed

SCHEMA = "{type: object, required: [url], properties: {url: {type: string, maxLength: 9}}}"


def logic(types: str) -> Logic:
    return parse_logic(f"task_types: {types}")


def test_a_declared_type_is_placed_under_its_own_name() -> None:
    columns = placed(logic("{ocr: {}}"), "ocr", {"model": "what I like", "url": "x"})

    assert (columns["model"], columns["space"]) == ("ocr", None)
    assert columns["payload"] == '{"model":"what I like","url":"x"}'


def test_a_declared_type_may_name_its_model() -> None:
    assert placed(logic("{ocr: {model: tesseract-5}}"), "ocr", {})["model"] == "tesseract-5"


def test_a_type_that_nobody_declared_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="there is no task type 'ocr'"):
        placed(logic("{}"), "ocr", {})


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ("{embedding: {}}", "built in"),
        ("{maintain: {}}", "built in"),
        ("{'OCR!': {}}", "lower-case letters"),
        ("{ocr: {modell: x}}", "Extra inputs"),
        ("{ocr: {max_payload_bytes: 0}}", "greater than"),
        ("{ocr: {payload_schema: {type: banana}}}", "banana"),
        ("{ocr: {payload_schema: {$ref: 'https://example.org/x'}}}", "nothing is fetched"),
        ("{ocr: {result_schema: {$ref: '#/$defs/x'}}}", "there is no"),
        ("{ocr: {result_schema: {$id: 'https://example.org/', type: object}}}", "no address"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(types: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        logic(types)


def test_a_payload_is_judged_by_size_and_schema_and_not_quoted() -> None:
    declared = logic(f"{{ocr: {{payload_schema: {SCHEMA}, max_payload_bytes: 100}}}}")

    for payload, reason in [
        ({"url": "канарейка" * 2}, r"payload: \$\.url: breaks the schema's 'maxLength'"),
        ({}, r"payload: \$: breaks the schema's 'required'"),
        ({"url": "x", "more": "y" * 100}, "over 100 bytes"),
    ]:
        with pytest.raises(InvalidRequest, match=reason) as refused:
            placed(declared, "ocr", payload, where="payload")
        assert "канарейка" not in str(refused.value)


def test_a_result_is_judged_by_what_can_be_stored_and_by_its_schema() -> None:
    section = logic(f"{{ocr: {{result_schema: {SCHEMA}, max_result_bytes: 100}}}}").file.task_types["ocr"]
    deep: Any = "x"
    for _ in range(70):
        deep = [deep]

    assert section.check_result({"url": "x"}) == {"url": "x"}
    for result in ({}, {"url": "x\x00"}, {"url": "x", "y": "z" * 100}, {"url": "x", "d": deep}):
        with pytest.raises(InvalidResult):
            section.check_result(result)


def test_a_schema_that_runs_in_a_circle_refuses_and_does_not_fail() -> None:
    section = logic("{ocr: {payload_schema: {properties: {a: {$ref: '#/properties/a'}}}}}").file.task_types[
        "ocr"
    ]

    with pytest.raises(InvalidRequest, match="deeper than the schema"):
        section.check_payload({"a": 1}, "payload")


def test_a_declared_type_is_offered_to_who_names_it_alone() -> None:
    declared = logic("{ocr: {model: tesseract-5}}")

    assert ("ocr", "tesseract-5") not in declared.offered((), ())
    assert declared.offered(("ocr",), ()) == [("ocr", "tesseract-5")]
    assert ("ocr", "tesseract-5") in declared.offered(("embedding", "ocr"), ("bge-m3",))
    assert declared.offered(("ocr",), (), ("bge-m3",)) == []
