"""OpenAI's own Python client, pointed at our /v1 as it is deployed, must find what it knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.service import LOGIC, service
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders

CHATS = LOGIC.replace("llm: {", "llm: {default_provider: anthropic, fallbacks: [groq], ")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProviders]:
    with FakeProviders() as server:
        yield server


@pytest.fixture(scope="module")
def client(fake: FakeProviders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    no_workers = ["--poll-workers", "0", "--celery-workers", "0"]
    folder, env = tmp_path_factory.mktemp("up"), fake.environ("anthropic", "groq")
    with (
        service(folder, *no_workers, logic=CHATS, env=env) as up,
        OpenAI(base_url=up.run["api_url"] + "/v1", api_key=up.run["api_token"], max_retries=0) as made,
    ):
        yield made


def test_the_official_client_gets_embeddings(client: OpenAI) -> None:
    texts = ["Спиннинг для ловли щуки", "Удочка и снасти для рыбалки", "Рецепт борща со сметаной"]
    answer = client.embeddings.create(model="default", input=texts)
    floats = client.embeddings.create(model="default", input=texts[0], encoding_format="float")
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.embeddings.create(model="nonesuch", input="удочка")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").embeddings.create(model="default", input="удочка")

    vectors = np.array([item.embedding for item in answer.data])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert answer.model == "multilingual-e5-small"
    assert answer.usage.prompt_tokens > 0
    np.testing.assert_allclose(floats.data[0].embedding, vectors[0], atol=1e-3)
    assert refused.value.code == "unknown_model"
    assert refused.value.param == "model"


def test_the_official_client_streams_a_chat(client: OpenAI, fake: FakeProviders) -> None:
    """And away from it before the end."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Что подарить?"}]

    whole = client.chat.completions.create(model="fast", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="fast", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    fake.fault("anthropic", Fault.HUNG_STREAM)
    left = client.chat.completions.create(model="fast", messages=messages, stream=True)
    began = next(iter(left))
    left.close()
    # Long before the deadline of 60 s: the facade has noticed, and has hung up on the provider.
    assert fake.left.wait(20)

    assert whole.choices[0].message.content == "Подарите удочку."
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == "Подарите удочку."
    assert sum(map(bool, deltas)) >= 2
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert began.choices[0].delta.role == "assistant"


def test_the_official_client_with_its_own_retries_asks_once_where_its_budget_is_over(
    client: OpenAI, fake: FakeProviders
) -> None:
    """P16: three upstream calls and 7.7 s for a budget of 1.5 s."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Что подарить?"}]
    fake.fault("anthropic", Fault.HANG)
    asked = len(fake.calls("anthropic"))

    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=2).chat.completions.create(
            model="anthropic/claude-haiku-4-5", messages=messages, extra_body={"timeout_ms": 1500}
        )

    fake.heal("anthropic")
    assert caught.value.status_code == 504
    assert len(fake.calls("anthropic")) == asked + 1
