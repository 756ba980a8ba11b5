"""The vendors' own clients understand what the fakes answer: so the fakes are honest.

Anthropic's before 1.0, which speaks the version 2023-06-01 of its API, as our adapter does.
"""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import groq
import numpy as np
import pytest
import requests
import runpod
import together
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from openrouter import OpenRouter, errors

from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector

TEXT = "Подарите удочку."
TURN = {"role": "user", "content": "Что подарить?"}


@pytest.fixture
def fake() -> Iterator[FakeProviders]:
    with FakeProviders() as server:
        yield server


def test_anthropic(fake: FakeProviders) -> None:
    with anthropic.Anthropic(
        api_key="good-key", base_url=fake.base_url("anthropic"), max_retries=0
    ) as client:
        message = client.messages.create(model="m", max_tokens=50, messages=[TURN])
        with client.messages.stream(model="m", max_tokens=50, messages=[TURN]) as stream:
            streamed = "".join(stream.text_stream)
            last = stream.get_final_message()
        fake.fault("anthropic", Fault.RATE_LIMITED_WAIT)
        with pytest.raises(anthropic.RateLimitError) as limited:
            client.messages.create(model="m", max_tokens=50, messages=[TURN])

    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
        "end_turn",
        9,
        5,
    )
    assert (streamed, last.stop_reason, last.usage.output_tokens) == (TEXT, "end_turn", 5)
    assert limited.value.response.headers["retry-after"] == "30"
    assert limited.value.body["error"]["type"] == "rate_limit_error"


def test_gemini(fake: FakeProviders) -> None:
    options = types.HttpOptions(base_url=fake.base_url("gemini"), api_version="v1beta")
    client = genai.Client(api_key="good-key", http_options=options, vertexai=False)

    answer = client.models.generate_content(model="m", contents="Что подарить?")
    pieces = list(client.models.generate_content_stream(model="m", contents="Что подарить?"))
    embedded = client.models.embed_content(model="gemini-embedding-001", contents=["чайник", "мяч"])
    fake.fault("gemini", Fault.RATE_LIMITED)
    with pytest.raises(genai_errors.ClientError) as limited:
        client.models.generate_content(model="m", contents="Что подарить?")
    client.close()

    assert answer.text == TEXT
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.usage_metadata.prompt_token_count == 9
    assert "".join(piece.text or "" for piece in pieces) == TEXT
    found = [row.values for row in embedded.embeddings]
    directions = np.array(found) / np.linalg.norm(found, axis=1, keepdims=True)
    expected = np.array([vector("gemini-embedding-001", text) for text in ("чайник", "мяч")])
    assert np.allclose((directions * expected).sum(axis=1) / np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")


def test_groq(fake: FakeProviders) -> None:
    with groq.Groq(api_key="good-key", base_url=fake.base_url("groq"), max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=[TURN])
        chunks = list(client.chat.completions.create(model="m", messages=[TURN], stream=True))
        fake.fault("groq", Fault.BAD_KEY)
        with pytest.raises(groq.AuthenticationError):
            client.chat.completions.create(model="m", messages=[TURN])

    assert answer.choices[0].message.content == TEXT
    assert answer.usage.completion_tokens == 5
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT


def test_together(fake: FakeProviders) -> None:
    model = "intfloat/multilingual-e5-large-instruct"
    with together.Together(api_key="good-key", base_url=fake.base_url("together"), max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=[TURN])
        chunks = list(client.chat.completions.create(model="m", messages=[TURN], stream=True))
        embedded = client.embeddings.create(model=model, input=["чайник", "мяч"])
        ranked = client.rerank.create(
            model="r", query="подарок рыбаку", documents=["помада", "рыбаку удочка"]
        )
        fake.fault("together", Fault.OVERLOADED)
        with pytest.raises(together.InternalServerError):
            client.embeddings.create(model=model, input=["чайник"])

    assert answer.choices[0].message.content == TEXT
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert np.allclose(embedded.data[0].embedding, vector(model, "чайник"), atol=1e-6)
    assert [row.index for row in ranked.results] == [1, 0]


def test_openrouter(fake: FakeProviders) -> None:
    """This client checks every field of an answer against the published OpenAPI."""
    with OpenRouter(api_key="good-key", server_url=fake.base_url("openrouter")) as client:
        answer = client.chat.send(model="m", messages=[TURN])
        with client.chat.send(model="m", messages=[TURN], stream=True) as chunks:
            streamed = list(chunks)
        embedded = client.embeddings.generate(model="baai/bge-m3", input=["чайник", "мяч"])
        ranked = client.rerank.rerank(
            model="r", query="подарок рыбаку", documents=["помада", "рыбаку удочка"]
        )
        fake.fault("openrouter", Fault.RATE_LIMITED_WAIT)
        with pytest.raises(errors.TooManyRequestsResponseError) as limited:
            client.chat.send(model="m", messages=[TURN])
        fake.fault("openrouter", Fault.NO_CREDIT)
        with pytest.raises(errors.PaymentRequiredResponseError):
            client.embeddings.generate(model="baai/bge-m3", input=["чайник"])

    assert answer.choices[0].message.content == TEXT
    assert answer.usage.cost == 0.00042
    assert "".join(c.choices[0].delta.content or "" for c in streamed if c.choices) == TEXT
    assert streamed[-1].usage.completion_tokens == 5
    assert np.allclose(embedded.data[1].embedding, vector("baai/bge-m3", "мяч"), atol=1e-6)
    assert [(row.index, row.document.text) for row in ranked.results] == [(1, "рыбаку удочка"), (0, "помада")]
    assert limited.value.headers["retry-after"] == "30"


def test_runpod(fake: FakeProviders, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _, endpoint_id = fake.base_url("runpod").rpartition("/")
    monkeypatch.setattr(runpod, "endpoint_url_base", base)
    endpoint = runpod.Endpoint(endpoint_id, api_key="good-key")
    work = {"input": {"texts": ["чайник"], "model": "bge-m3"}}

    whole = endpoint.run_sync(work, timeout=10)
    job = endpoint.run(work)
    looked_at = [job.status(), job.status(), job.status()]
    unwanted = endpoint.run(work)
    told = [unwanted.cancel()["status"], unwanted.status()]
    health = endpoint.health()
    fake.fault("runpod", Fault.ERROR_INSIDE)
    nothing = endpoint.run_sync(work, timeout=10)
    fake.fault("runpod", Fault.BAD_KEY)
    with pytest.raises(RuntimeError, match="401 Unauthorized"):
        endpoint.run(work)
    fake.fault("runpod", Fault.NOT_FOUND)
    with pytest.raises(requests.HTTPError):
        endpoint.health()
    endpoint.rp_client.rp_session.close()

    assert np.allclose(whole["embeddings"], [vector("bge-m3", "чайник")], atol=1e-6)
    assert looked_at == ["IN_PROGRESS", "COMPLETED", "COMPLETED"]
    assert job.output() == whole
    assert told == ["CANCELLED", "CANCELLED"]
    assert health["workers"]["idle"] == 1
    assert nothing is None
