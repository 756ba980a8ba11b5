"""What is sent to the Gemini API: generateContent, its stream, and batchEmbedContents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gifty_compute.logic import defaults
from gifty_compute.logic.file import OfferSection, SpaceSection
from gifty_compute.providers.gemini import GeminiProvider
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
TURN = {"role": "user", "content": "Что подарить?"}
CONTENT = {"role": "user", "parts": [{"text": "Что подарить?"}]}
ANSWER = {"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "STOP"}]}


def space(**fields: Any) -> SpaceSection:
    about = {"dim": 2, "revision": "r", "pooling": "last", "normalized": True, "quantization": "none"}
    return SpaceSection.model_validate({**about, **fields})


def sent(flags: OfferSection | None = None, **fields: Any) -> dict[str, Any]:
    transport = ScriptedTransport(answered(ANSWER))
    payload = {"messages": [TURN], **fields}
    GeminiProvider(transport).run(asking("gemini", "llm", payload, flags=flags, model_id="m"))
    body: dict[str, Any] = transport.body
    return body


def config(flags: OfferSection | None = None, **fields: Any) -> Any:
    return sent(flags, **fields)["generationConfig"]


def test_a_plain_chat_is_its_contents() -> None:
    assert sent() == {"contents": [CONTENT], "generationConfig": {}}


def test_every_field_has_its_place() -> None:
    body = sent(
        OfferSection(effort="low"),
        max_tokens=50,
        temperature=0.5,
        stops=["\n", "END"],
        system_prompt="Кратко.",
    )

    assert body == {
        "contents": [CONTENT],
        "systemInstruction": {"parts": [{"text": "Кратко."}]},
        "generationConfig": {
            "maxOutputTokens": 50,
            "temperature": 0.5,
            "stopSequences": ["\n", "END"],
            "thinkingConfig": {"thinkingLevel": "LOW"},
        },
    }


def test_assistants_are_models_here_and_system_turns_an_instruction() -> None:
    turns = [TURN, {"role": "assistant", "content": "Удочку."}, {"role": "system", "content": "Второе."}]

    body = sent(messages=[*turns, TURN], system_prompt="Первое.")

    assert body["systemInstruction"] == {"parts": [{"text": "Первое.\n\nВторое."}]}
    assert body["contents"] == [CONTENT, {"role": "model", "parts": [{"text": "Удочку."}]}, CONTENT]


EFFORTS: dict[Any, Any] = {
    None: None,
    "none": {"thinkingBudget": 0},
    "minimal": {"thinkingLevel": "MINIMAL"},
    "low": {"thinkingLevel": "LOW"},
    "medium": {"thinkingLevel": "MEDIUM"},
    "high": {"thinkingLevel": "HIGH"},
}


@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_is_a_level_and_none_is_no_budget(effort: Any) -> None:
    assert config(OfferSection(effort=effort)).get("thinkingConfig") == EFFORTS[effort]


JSON = {"responseMimeType": "application/json"}
FORMS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("json_schema", {"json_schema": SCHEMA}, {**JSON, "responseJsonSchema": SCHEMA}, False),
    ("json_schema", {"json_mode": True}, JSON, True),
    ("json_object", {"json_schema": SCHEMA}, JSON, True),
    ("prompt", {"json_schema": SCHEMA}, {}, True),
    ("prompt", {"json_mode": True}, {}, True),
]


@pytest.mark.parametrize(("structured", "fields", "form", "in_words"), FORMS)
def test_json_is_asked_for_as_the_model_takes_it(
    structured: Any, fields: dict[str, Any], form: dict[str, Any], in_words: bool
) -> None:
    body = sent(OfferSection(structured=structured), **fields)

    assert body["generationConfig"] == form
    assert ("JSON" in str(body.get("systemInstruction"))) is in_words
    if in_words and "json_schema" in fields:
        assert '"required":["ok"]' in body["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("temperature", "sampling", "expected"), [(0.0, True, 0.0), (2.0, True, 2.0), (0.5, False, None)]
)
def test_temperature_is_sent_only_where_the_model_takes_it(
    temperature: float, sampling: bool, expected: float | None
) -> None:
    assert config(OfferSection(sampling=sampling), temperature=temperature).get("temperature") == expected


@pytest.mark.parametrize("model_id", defaults.PROVIDERS["gemini"].models)
def test_the_models_of_the_defaults_get_no_temperature_and_little_thought(model_id: str) -> None:
    flags = defaults.PROVIDERS["gemini"].models[model_id]

    assert config(flags, temperature=0.5) == {"thinkingConfig": {"thinkingLevel": "LOW"}}


@pytest.mark.parametrize(
    ("version", "model_id", "path"),
    [
        (None, "m", "/v1beta/models/m:generateContent"),
        ("v1", "m", "/v1/models/m:generateContent"),
        (None, "a/../b?key=1#", "/v1beta/models/a%2F..%2Fb%3Fkey%3D1%23:generateContent"),
    ],
)
def test_the_model_is_in_the_path_and_can_be_nothing_but_a_name(
    version: str | None, model_id: str, path: str
) -> None:
    transport = ScriptedTransport(answered(ANSWER))
    section = defaults.PROVIDERS["gemini"].model_copy(update={"api_version": version})

    GeminiProvider(transport).run(
        asking("gemini", "llm", {"messages": [TURN]}, section=section, model_id=model_id)
    )

    assert transport.request.url == f"http://gemini.test{path}"


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "1"), (1.2, "2"), (60, "60")])
def test_the_key_and_the_time_that_is_left_are_headers(seconds: float, told: str) -> None:
    transport = ScriptedTransport(answered(ANSWER))

    GeminiProvider(transport).run(asking("gemini", "llm", {"messages": [TURN]}, seconds=seconds))

    headers = transport.request.headers
    assert (headers["x-goog-api-key"], headers["x-server-timeout"]) == (KEY, told)
    assert KEY not in transport.request.url


def test_a_stream_is_given_no_servers_timeout() -> None:
    """P7, K4: the server would end what flows at the deadline of its first piece."""
    transport = ScriptedTransport(answered(b""), chunks=[b""])

    next(GeminiProvider(transport).stream(asking("gemini", "llm", {"messages": [TURN]})))

    assert "x-server-timeout" not in transport.request.headers
    assert transport.request.headers["x-goog-api-key"] == KEY


def test_a_stream_has_the_same_body_at_a_path_of_its_own() -> None:
    chunk = b'data: {"candidates":[{"content":{"parts":[{"text":"d"}]},"finishReason":"STOP"}]}\r\n\r\n'
    transport = ScriptedTransport(answered({}), chunks=[chunk])

    list(GeminiProvider(transport).stream(asking("gemini", "llm", {"messages": [TURN]}, model_id="m")))

    assert transport.request.url.endswith("/v1beta/models/m:streamGenerateContent?alt=sse")
    assert transport.body == {"contents": [CONTENT], "generationConfig": {}}


PREFIXES = {"query": "task: search | query: ", "passage": "text: "}
EMBEDDED: list[tuple[SpaceSection | None, bool, str, str, dict[str, Any]]] = [
    (space(), False, "query", "чайник", {"outputDimensionality": 2, "taskType": "RETRIEVAL_QUERY"}),
    (space(), False, "passage", "чайник", {"outputDimensionality": 2, "taskType": "RETRIEVAL_DOCUMENT"}),
    (
        space(prefixes=PREFIXES),
        False,
        "query",
        "task: search | query: чайник",
        {"outputDimensionality": 2},
    ),
    (
        space(prefixes=PREFIXES),
        True,
        "query",
        "чайник",
        {"outputDimensionality": 2, "taskType": "RETRIEVAL_QUERY"},
    ),
    (None, False, "query", "чайник", {"taskType": "RETRIEVAL_QUERY"}),
]


@pytest.mark.parametrize(("of", "its_own", "kind", "text", "more"), EMBEDDED)
def test_each_text_is_a_request_that_says_what_it_is(
    of: SpaceSection | None, its_own: bool, kind: str, text: str, more: dict[str, Any]
) -> None:
    transport = ScriptedTransport(answered({"embeddings": [{"values": [3.0, 4.0]}]}))
    payload = {"texts": ["чайник"], "input_type": kind}
    flags = OfferSection(applies_prefixes=its_own)

    GeminiProvider(transport).run(asking("gemini", "embedding", payload, model_id="m", space=of, flags=flags))

    assert transport.body == {
        "requests": [{"model": "models/m", "content": {"parts": [{"text": text}]}, **more}]
    }


@pytest.mark.parametrize(("normalized", "expected"), [(True, [[0.6, 0.8]]), (False, [[3.0, 4.0]])])
def test_vectors_are_made_unit_length_where_the_space_is(
    normalized: bool, expected: list[list[float]]
) -> None:
    transport = ScriptedTransport(answered({"embeddings": [{"values": [3.0, 4.0]}]}))
    payload = {"texts": ["чайник"], "input_type": "query"}

    reply = GeminiProvider(transport).run(
        asking("gemini", "embedding", payload, space=space(normalized=normalized))
    )

    assert np.allclose(reply.result["embeddings"], expected)
