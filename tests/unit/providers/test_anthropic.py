"""What is sent to Anthropic's Messages API, and what of an answer's blocks is its text."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic import defaults
from gifty_compute.logic.file import OfferSection
from gifty_compute.providers.anthropic import AnthropicProvider
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
BY_SCHEMA = {"type": "json_schema", "schema": SCHEMA}
TURN = {"role": "user", "content": "Что подарить?"}
MESSAGE = {
    "type": "message",
    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "{}"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def sent(flags: OfferSection | None = None, **fields: Any) -> dict[str, Any]:
    transport = ScriptedTransport(answered(MESSAGE))
    payload = {"messages": [TURN], "max_tokens": 50, **fields}
    AnthropicProvider(transport).run(asking("anthropic", "llm", payload, flags=flags))
    body: dict[str, Any] = transport.body
    return body


PLAIN = {"model": "some/model", "max_tokens": 50, "messages": [TURN]}


def test_a_plain_chat_holds_what_the_api_requires_and_nothing_else() -> None:
    assert sent() == PLAIN


def test_every_field_has_its_place() -> None:
    body = sent(OfferSection(effort="high"), temperature=0.5, stops=["\n", "END"], system_prompt="Кратко.")

    assert body == {
        **PLAIN,
        "system": "Кратко.",
        "temperature": 0.5,
        "stop_sequences": ["\n", "END"],
        "output_config": {"effort": "high"},
    }


def test_system_turns_leave_the_messages_and_join_the_system_prompt() -> None:
    answer = {"role": "assistant", "content": "Удочку."}
    turns = [{"role": "system", "content": "Второе."}, TURN, answer, TURN]

    body = sent(messages=turns, system_prompt="Первое.")

    assert (body["system"], body["messages"]) == ("Первое.\n\nВторое.", [TURN, answer, TURN])


EFFORTS: dict[Any, dict[str, Any]] = {
    None: {},
    "none": {"thinking": {"type": "disabled"}},
    "minimal": {"output_config": {"effort": "low"}},
    "low": {"output_config": {"effort": "low"}},
    "medium": {"output_config": {"effort": "medium"}},
    "high": {"output_config": {"effort": "high"}},
}


@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_is_one_that_anthropic_knows(effort: Any) -> None:
    assert sent(OfferSection(effort=effort)) == {**PLAIN, **EFFORTS[effort]}


FORMS: list[tuple[str, dict[str, Any], dict[str, Any] | None, bool]] = [
    ("json_schema", {"json_schema": SCHEMA}, BY_SCHEMA, False),
    ("json_schema", {"json_mode": True, "json_schema": SCHEMA}, BY_SCHEMA, False),
    # There is no JSON mode here: without a schema words must do.
    ("json_schema", {"json_mode": True}, None, True),
    ("json_object", {"json_schema": SCHEMA}, None, True),
    ("prompt", {"json_schema": SCHEMA}, None, True),
    ("prompt", {"json_mode": True}, None, True),
]


@pytest.mark.parametrize(("structured", "fields", "form", "in_words"), FORMS)
def test_json_is_asked_for_by_schema_or_in_words(
    structured: Any, fields: dict[str, Any], form: dict[str, Any] | None, in_words: bool
) -> None:
    body = sent(OfferSection(structured=structured), **fields)

    assert body.get("output_config", {}).get("format") == form
    assert ("JSON" in body.get("system", "")) is in_words
    if in_words and "json_schema" in fields:
        assert '"required":["ok"]' in body["system"]


def test_the_schema_and_the_effort_share_one_field() -> None:
    body = sent(OfferSection(effort="low"), json_schema=SCHEMA)

    assert body["output_config"] == {"effort": "low", "format": BY_SCHEMA}


@pytest.mark.parametrize(
    ("temperature", "sampling", "expected"),
    [(0.0, True, 0.0), (1.0, True, 1.0), (0.5, False, None), (2.0, False, None)],
)
def test_temperature_is_sent_only_where_the_model_takes_it(
    temperature: float, sampling: bool, expected: float | None
) -> None:
    assert sent(OfferSection(sampling=sampling), temperature=temperature).get("temperature") == expected


def test_a_temperature_beyond_anthropics_scale_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(temperature=1.5)

    assert refused.value.param == "temperature"


@pytest.mark.parametrize("model_id", defaults.PROVIDERS["anthropic"].models)
def test_the_models_of_the_defaults_get_no_temperature_and_little_effort(model_id: str) -> None:
    body = sent(defaults.PROVIDERS["anthropic"].models[model_id], temperature=0.5)

    assert body == {**PLAIN, "output_config": {"effort": "low"}}


@pytest.mark.parametrize("version", [None, "2026-10-21"])
def test_the_key_and_the_version_are_headers(version: str | None) -> None:
    transport = ScriptedTransport(answered(MESSAGE))
    section = defaults.PROVIDERS["anthropic"].model_copy(update={"api_version": version})

    AnthropicProvider(transport).run(
        asking("anthropic", "llm", {"messages": [TURN], "max_tokens": 5}, section=section)
    )

    headers = transport.request.headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, version or "2023-06-01")
    assert "authorization" not in headers


def test_a_stream_asks_for_the_same_and_to_be_streamed() -> None:
    event = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"d"}}\n\n'
    end = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{}}\n\n'
    transport = ScriptedTransport(answered({}), chunks=[event, end])

    list(
        AnthropicProvider(transport).stream(
            asking("anthropic", "llm", {"messages": [TURN], "max_tokens": 50})
        )
    )

    assert transport.body == {**PLAIN, "stream": True}
