"""What we send and what the fakes answer, against the types that vendors generate from their own OpenAPI.

A field that the type does not know is refused, here and there, at any depth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, NotRequired

import anthropic.types
import anthropic.types.message_create_params
import groq.types.chat
import groq.types.chat.completion_create_params
import openai.types.chat
import openai.types.chat.completion_create_params
import openrouter.components
import openrouter.operations
import pytest
import requests
import together.types
import together.types.chat
import together.types.chat.completion_create_params
import together.types.rerank_create_response
from google import genai
from google.genai import types
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.high import HighRoad, build_high_road
from tests.fakes.server import FakeProviders, Received
from tests.integration.providers.conftest import CLOCK, NO_REDIS, WORK, call_of, logic_for

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
TURNS = [
    {"role": "user", "content": "Что подарить рыбаку?"},
    {"role": "assistant", "content": "Удочку."},
    {"role": "user", "content": "А ещё?"},
]


# Google's package has no type for these two bodies, only for their parts.
class GenerateContent(TypedDict):
    contents: list[types.Content]
    generationConfig: types.GenerationConfig
    systemInstruction: NotRequired[types.Content]


class EmbedContent(TypedDict):
    model: str
    content: types.Content
    taskType: NotRequired[str]
    outputDimensionality: NotRequired[int]


class BatchEmbedContents(TypedDict):
    requests: list[EmbedContent]


@dataclass(frozen=True)
class Types:
    """Of a request and its answer; `chunk` of each event, where they are streamed."""

    request: Any
    answer: Any
    streaming: Any = None
    chunk: Any = None


CHATS = {
    "anthropic": Types(
        anthropic.types.message_create_params.MessageCreateParamsNonStreaming,
        anthropic.types.Message,
        anthropic.types.message_create_params.MessageCreateParamsStreaming,
        anthropic.types.RawMessageStreamEvent,
    ),
    "gemini": Types(
        GenerateContent, types.GenerateContentResponse, GenerateContent, types.GenerateContentResponse
    ),
    "groq": Types(
        groq.types.chat.completion_create_params.CompletionCreateParams,
        groq.types.chat.ChatCompletion,
        groq.types.chat.completion_create_params.CompletionCreateParams,
        groq.types.chat.ChatCompletionChunk,
    ),
    "openrouter": Types(
        openrouter.components.ChatRequest,
        openrouter.components.ChatResult,
        openrouter.components.ChatRequest,
        openrouter.components.ChatStreamChunk,
    ),
    "together": Types(
        together.types.chat.completion_create_params.CompletionCreateParamsNonStreaming,
        together.types.chat.ChatCompletion,
        together.types.chat.completion_create_params.CompletionCreateParamsStreaming,
        together.types.chat.ChatCompletionChunk,
    ),
    # vLLM's route, and any other server of OpenAI's form.
    "runpod": Types(
        openai.types.chat.completion_create_params.CompletionCreateParamsNonStreaming,
        openai.types.chat.ChatCompletion,
        openai.types.chat.completion_create_params.CompletionCreateParamsStreaming,
        openai.types.chat.ChatCompletionChunk,
    ),
}
EMBEDDINGS = {
    "gemini": Types(BatchEmbedContents, types.EmbedContentResponse),
    "openrouter": Types(
        openrouter.operations.CreateEmbeddingsRequestBody, openrouter.operations.CreateEmbeddingsResponseBody
    ),
    "together": Types(together.types.EmbeddingCreateParams, together.types.Embedding),
}
RERANKING = {
    "openrouter": Types(
        openrouter.operations.CreateRerankRequestBody, openrouter.operations.CreateRerankResponseBody
    ),
    "together": Types(together.types.RerankCreateParams, together.types.RerankCreateResponse),
}


class Quiet(GenerateJsonSchema):
    """Defaults that are no JSON are left out, as they are for everybody; not worth a warning here."""

    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012


@cache
def judge_of(kind: Any) -> Draft202012Validator:
    """The type as a JSON Schema that knows no other fields."""
    return Draft202012Validator(closed(TypeAdapter(kind).json_schema(schema_generator=Quiet)))


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(part) for name, part in schema.items()}
    if isinstance(found.get("properties"), dict):
        found["additionalProperties"] = False
    return found


def refuse_strange(kind: Any, body: Any) -> None:
    faults = [f"{fault.json_path}: {fault.message}" for fault in judge_of(kind).iter_errors(body)]
    assert not faults, f"{faults}\nin {json.dumps(body, ensure_ascii=False)[:2000]}"


@pytest.fixture
def fake() -> Iterator[FakeProviders]:
    with FakeProviders() as server:
        yield server


@pytest.fixture
def road(fake: FakeProviders) -> Iterator[Callable[[str], HighRoad]]:
    made: list[HighRoad] = []

    def build(provider: str) -> HighRoad:
        environ = fake.environ(provider)
        made.append(build_high_road(environ, NO_REDIS, Inference(EngineShelf(), CLOCK), CLOCK, Random(1)))
        return made[-1]

    yield build
    for high in made:
        high.close()


def answer_to(fake: FakeProviders, provider: str, received: Received) -> requests.Response:
    """What the fake says to the same request, unread by any code of ours."""
    answer = requests.post(
        fake.base_url(provider) + received.path, json=received.body, headers=received.headers, timeout=10
    )
    assert answer.status_code == 200, answer.text
    return answer


def events_of(answer: requests.Response) -> list[Any]:
    """Without those that are of the stream and not of the message."""
    data = [line[5:].strip() for line in answer.content.splitlines() if line.startswith(b"data:")]
    return [json.loads(piece) for piece in data if piece not in (b"[DONE]", b'{"type": "ping"}')]


# All that a caller may ask of a language model, and that logic.yaml may say of one.
FULL = {"temperature": 0.5, "max_tokens": 50, "stops": ["\n", "END"], "system_prompt": "Кратко."}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("", {"messages": TURNS, **FULL}),
    ("sampling: false", FULL),
    *((f"effort: {effort}", {}) for effort in ("none", "minimal", "low", "medium", "high")),
    *(
        (f"effort: low, structured: {form}", asked)
        for form in ("json_schema", "json_object", "prompt")
        for asked in ({"json_mode": True}, {"json_schema": SCHEMA})
    ),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", CHATS)
def test_chats(fake: FakeProviders, road: Callable[[str], HighRoad], provider: str, streamed: bool) -> None:
    router, kinds = road(provider).router, CHATS[provider]
    for flags, asked in CASES:
        extra = f"providers: {{{provider}: {{models: {{some/llm: {{{flags}}}}}}}}}"
        call = call_of(logic_for(provider, "llm", extra), "llm", model=f"{provider}/some/llm", **asked)
        if streamed:
            list(router.stream(call).deltas)
        else:
            router.run(call)

    sent = fake.calls(provider)
    assert len(sent) == len(CASES)
    for received in sent:
        refuse_strange(kinds.streaming if streamed else kinds.request, received.body)
    answer = answer_to(fake, provider, sent[0])
    if streamed:
        for event in events_of(answer):
            refuse_strange(kinds.chunk, event)
    else:
        refuse_strange(kinds.answer, answer.json())


@pytest.mark.parametrize("told", ["true", "false"])
@pytest.mark.parametrize("input_type", ["query", "passage"])
@pytest.mark.parametrize("provider", EMBEDDINGS)
def test_embeddings(
    fake: FakeProviders, road: Callable[[str], HighRoad], provider: str, input_type: str, told: str
) -> None:
    logic = logic_for(provider, "embedding")
    if provider == "openrouter":
        flags = f"models: {{baai/bge-m3: {{applies_prefixes: {told}}}}}"
        logic = logic_for(provider, "embedding", f"providers: {{openrouter: {{{flags}}}}}")

    road(provider).router.run(call_of(logic, "embedding", input_type=input_type))

    [received] = fake.calls(provider)
    refuse_strange(EMBEDDINGS[provider].request, received.body)
    refuse_strange(EMBEDDINGS[provider].answer, answer_to(fake, provider, received).json())


@pytest.mark.parametrize("provider", RERANKING)
def test_reranking(fake: FakeProviders, road: Callable[[str], HighRoad], provider: str) -> None:
    road(provider).router.run(call_of(logic_for(provider, "rerank"), "rerank"))

    [received] = fake.calls(provider)
    refuse_strange(RERANKING[provider].request, received.body)
    refuse_strange(RERANKING[provider].answer, answer_to(fake, provider, received).json())


def test_googles_own_client_sends_what_we_send(fake: FakeProviders, road: Callable[[str], HighRoad]) -> None:
    logic = logic_for("gemini", "llm", "providers: {gemini: {models: {m: {effort: low}}}}")
    options = types.HttpOptions(base_url=fake.base_url("gemini"), api_version="v1beta")
    client = genai.Client(api_key="good-key", http_options=options, vertexai=False)
    config = types.GenerateContentConfig(
        system_instruction="Кратко.",
        temperature=0.5,
        max_output_tokens=50,
        stop_sequences=["\n", "END"],
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
    )

    router = road("gemini").router
    router.run(call_of(logic, "llm", model="gemini/m", json_schema=SCHEMA, **FULL))
    client.models.generate_content(model="m", contents=WORK["llm"]["messages"][0]["content"], config=config)
    router.run(call_of(logic_for("gemini", "embedding"), "embedding", input_type="query"))
    client.models.embed_content(
        model="gemini-embedding-001",
        contents=WORK["embedding"]["texts"],
        config=types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=3072),
    )
    client.close()

    ours, theirs, our_texts, their_texts = fake.calls("gemini")
    assert (ours.path, our_texts.path) == (theirs.path, their_texts.path)
    # Roles where there is but one, and a name that the API knows in both spellings.
    theirs.body["systemInstruction"].pop("role")
    level = theirs.body["generationConfig"]["thinkingConfig"].pop("thinking_level")
    theirs.body["generationConfig"]["thinkingConfig"]["thinkingLevel"] = level
    for request in their_texts.body["requests"]:
        request["content"].pop("role")
    assert ours.body == theirs.body
    assert our_texts.body == their_texts.body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CHATS["together"].request, {"model": "m", "messages": [], "max_completion_tokens": 5}),
        (CHATS["groq"].request, {"model": "m", "messages": [], "reasoning_effort": "minimal"}),
        (CHATS["groq"].request, {"model": "m", "messages": [{"role": "user", "content": "?", "n": 1}]}),
        (CHATS["anthropic"].request, {"model": "m", "messages": TURNS, "max_tokens": 5, "output": {}}),
        (CHATS["gemini"].request, {"contents": [], "generationConfig": {"max_tokens": 5}}),
        (CHATS["openrouter"].answer, {"choices": []}),
        (RERANKING["together"].request, {"model": "m", "query": "q", "documents": [5]}),
    ],
)
def test_the_types_refuse_what_is_strange(kind: Any, body: Any) -> None:
    with pytest.raises(AssertionError):
        refuse_strange(kind, body)
