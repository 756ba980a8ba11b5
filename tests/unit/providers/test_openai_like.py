"""What is sent to servers of OpenAI's form: whole bodies, each dialect's own words."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.file import OfferSection, ProviderSection, SpaceSection
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from tests.unit.providers.scripted import KEY, ScriptedTransport, answered, asking

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
TURN = {"role": "user", "content": "Что подарить?"}
CHAT = {"choices": [{"index": 0, "message": {"content": '{"ok": true}'}, "finish_reason": "stop"}]}
OWN = ProviderSection(adapter="openai_like", kinds=("llm", "embedding", "rerank"))
SPACE = SpaceSection(
    dim=1,
    revision="r",
    pooling="mean",
    normalized=True,
    quantization="none",
    prefixes={"query": "query: ", "passage": "passage: "},
)


def sent(
    provider: str, payload: dict[str, Any], kind: str = "llm", *, answer: Any = CHAT, **more: Any
) -> dict[str, Any]:
    """The body of the one request that is made; "own" is a server that only logic.yaml knows."""
    transport = ScriptedTransport(answered(answer))
    section = OWN if provider == "own" else None
    OpenaiLikeProvider(transport).run(asking(provider, kind, payload, section=section, **more))
    body: dict[str, Any] = transport.body
    return body


def chat(provider: str, flags: OfferSection | None = None, **fields: Any) -> dict[str, Any]:
    return sent(provider, {"messages": [TURN], **fields}, flags=flags)


@pytest.mark.parametrize("provider", ["groq", "openrouter", "together", "own"])
def test_a_plain_chat_is_the_model_and_the_messages(provider: str) -> None:
    assert chat(provider) == {"model": "some/model", "messages": [TURN]}


@pytest.mark.parametrize(
    ("provider", "cap"),
    [
        ("groq", "max_completion_tokens"),
        ("openrouter", "max_tokens"),
        ("together", "max_tokens"),
        ("own", "max_tokens"),
    ],
)
def test_every_field_of_a_chat_has_its_place(provider: str, cap: str) -> None:
    body = chat(provider, max_tokens=50, temperature=0.5, stops=["\n", "END"], system_prompt="Кратко.")

    assert body == {
        "model": "some/model",
        "messages": [{"role": "system", "content": "Кратко."}, TURN],
        cap: 50,
        "temperature": 0.5,
        "stop": ["\n", "END"],
    }


def test_the_system_prompt_and_system_turns_become_one_first_message() -> None:
    turns = [
        {"role": "system", "content": "Второе."},
        TURN,
        {"role": "assistant", "content": "Удочку."},
        {"role": "system", "content": "Третье."},
        {"role": "user", "content": "А ещё?"},
    ]

    body = sent("groq", {"messages": turns, "system_prompt": "Первое."})

    assert body["messages"] == [
        {"role": "system", "content": "Первое.\n\nВторое.\n\nТретье."},
        turns[1],
        turns[2],
        turns[4],
    ]


def test_a_conversation_of_system_turns_alone_is_not_sent() -> None:
    transport = ScriptedTransport()

    with pytest.raises(InvalidRequest):
        OpenaiLikeProvider(transport).run(
            asking("groq", "llm", {"messages": [{"role": "system", "content": "s"}]})
        )

    assert transport.requests == []


@pytest.mark.parametrize(
    ("temperature", "sampling", "expected"), [(0.0, True, 0.0), (0.7, True, 0.7), (0.7, False, None)]
)
def test_temperature_is_sent_only_where_the_model_takes_it(
    temperature: float, sampling: bool, expected: float | None
) -> None:
    body = chat("together", OfferSection(sampling=sampling), temperature=temperature)

    assert body.get("temperature") == expected


EFFORTS = {
    ("own", "none"): {"reasoning_effort": "none"},
    ("own", "minimal"): {"reasoning_effort": "minimal"},
    ("own", "high"): {"reasoning_effort": "high"},
    ("groq", "none"): {"reasoning_effort": "none"},
    ("groq", "minimal"): {"reasoning_effort": "low"},
    ("groq", "medium"): {"reasoning_effort": "medium"},
    ("together", "none"): {"reasoning": {"enabled": False}},
    ("together", "minimal"): {"reasoning_effort": "low"},
    ("together", "high"): {"reasoning_effort": "high"},
    ("openrouter", "none"): {"reasoning": {"effort": "none"}},
    ("openrouter", "low"): {"reasoning": {"effort": "low"}},
}


@pytest.mark.parametrize(("provider", "effort"), EFFORTS)
def test_effort_is_asked_for_in_the_servers_own_words(provider: str, effort: Any) -> None:
    body = chat(provider, OfferSection(effort=effort))

    assert {name: body[name] for name in body if name.startswith("reasoning")} == EFFORTS[provider, effort]


BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
FORMS: list[tuple[str, dict[str, Any], dict[str, Any] | None, bool]] = [
    ("json_schema", {"json_schema": SCHEMA}, BY_SCHEMA, False),
    ("json_schema", {"json_mode": True}, {"type": "json_object"}, True),
    ("json_schema", {"json_mode": True, "json_schema": SCHEMA}, BY_SCHEMA, False),
    ("json_object", {"json_schema": SCHEMA}, {"type": "json_object"}, True),
    ("json_object", {"json_mode": True}, {"type": "json_object"}, True),
    ("prompt", {"json_schema": SCHEMA}, None, True),
    ("prompt", {"json_mode": True}, None, True),
    ("json_schema", {}, None, False),
]


@pytest.mark.parametrize(("structured", "fields", "form", "in_words"), FORMS)
def test_json_is_asked_for_as_the_model_takes_it(
    structured: Any, fields: dict[str, Any], form: dict[str, Any] | None, in_words: bool
) -> None:
    body = chat("groq", OfferSection(structured=structured), **fields)

    assert body.get("response_format") == form
    first = body["messages"][0]
    assert (first["role"] == "system" and "JSON" in first["content"]) is in_words
    if in_words and "json_schema" in fields:
        # Where no field holds the schema, the words do.
        assert '"required":["ok"]' in first["content"]


@pytest.mark.parametrize(("provider", "asked"), [("groq", False), ("together", False), ("own", True)])
def test_a_stream_asks_for_its_usage_where_it_must(provider: str, asked: bool) -> None:
    transport = ScriptedTransport(
        answered({}),
        chunks=[b'data: {"choices":[{"delta":{"content":"d"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'],
    )
    section = OWN if provider == "own" else None

    list(OpenaiLikeProvider(transport).stream(asking(provider, "llm", {"messages": [TURN]}, section=section)))

    more = {"stream_options": {"include_usage": True}} if asked else {}
    assert transport.body == {"model": "some/model", "messages": [TURN], "stream": True, **more}
    assert transport.request.headers["accept"] == "text/event-stream"


def rows(*texts: str) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": [1.0]} for i, _ in enumerate(texts)]}


TYPES = {
    ("own", "query"): "query",
    ("own", "passage"): "passage",
    ("openrouter", "query"): "search_query",
    ("openrouter", "passage"): "search_document",
}


@pytest.mark.parametrize(("provider", "kind"), TYPES)
def test_prefixes_are_added_here_or_the_server_is_told_what_the_texts_are(provider: str, kind: str) -> None:
    payload = {"texts": ["чайник"], "input_type": kind}
    its_own = OfferSection(applies_prefixes=True)

    ours = sent(provider, payload, "embedding", answer=rows("чайник"), space=SPACE)
    theirs = sent(provider, payload, "embedding", answer=rows("чайник"), space=SPACE, flags=its_own)

    assert ours == {"model": "some/model", "input": [f"{kind}: чайник"]}
    assert theirs == {"model": "some/model", "input": ["чайник"], "input_type": TYPES[provider, kind]}


def test_texts_are_sent_in_portions_that_the_server_takes() -> None:
    texts = [str(number) for number in range(250)]
    portions = [texts[:100], texts[100:200], texts[200:]]
    transport = ScriptedTransport(*(answered(rows(*portion)) for portion in portions))

    reply = OpenaiLikeProvider(transport).run(
        asking("together", "embedding", {"texts": texts, "input_type": "passage"})
    )

    assert [body["input"] for body in transport.bodies] == portions
    assert len(reply.result["embeddings"]) == 250


def test_reranking_sends_the_query_and_the_documents_alone() -> None:
    answer = {"results": [{"index": 0, "relevance_score": 0.5}]}

    body = sent("together", {"query": "q", "documents": ["d"]}, "rerank", answer=answer)

    assert body == {"model": "some/model", "query": "q", "documents": ["d"]}


@pytest.mark.parametrize(
    ("provider", "said", "kind"),
    [
        ("together", {}, "cross-encoder"),
        ("openrouter", {}, "cross-encoder"),
        ("own", {}, "unknown"),
        ("own", {"kind": "bi-encoder"}, "bi-encoder"),
    ],
)
def test_the_kind_of_a_reranker_is_what_its_server_says(
    provider: str, said: dict[str, Any], kind: str
) -> None:
    """F8: vLLM ranks by an embedding model, too; another facade says what it did."""
    transport = ScriptedTransport(answered({"results": [{"index": 0, "relevance_score": 0.5}], **said}))
    section = OWN if provider == "own" else None
    ask = asking(provider, "rerank", {"query": "q", "documents": ["d"]}, section=section)

    assert OpenaiLikeProvider(transport).run(ask).result["kind"] == kind


@pytest.mark.parametrize(("key", "expected"), [(KEY, f"Bearer {KEY}"), ("", None)])
def test_a_server_without_a_key_gets_none(key: str, expected: str | None) -> None:
    transport = ScriptedTransport(answered(CHAT))

    OpenaiLikeProvider(transport).run(asking("own", "llm", {"messages": [TURN]}, section=OWN, key=key))

    assert transport.request.headers.get("authorization") == expected
