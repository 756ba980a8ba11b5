"""Every provider healthy, over real sockets and both transports: each kind of work that it does."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import NoRoute
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic.source import DEFAULT_LOGIC, parse_logic
from gifty_compute.transport.base import Transport
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.transport.pooled import PooledTransport
from tests.fakes.server import FakeProviders
from tests.integration.providers.conftest import CLOCK, NO_REDIS, call_of, logic_for
from tests.integration.providers.test_faults import refuse_wrong_vectors
from tests.integration.transport.conftest import Connection, RawServer


@pytest.mark.parametrize("provider", ["intelligence_api", "runpod", "together", "openrouter", "gemini"])
def test_embeddings(fake: FakeProviders, road: Callable[..., HighRoad], provider: str) -> None:
    logic = logic_for(provider, "embedding")

    answer = road(provider).router.run(call_of(logic, "embedding"))

    refuse_wrong_vectors(answer.result["embeddings"], logic.model("embedding", None).name)
    assert answer.result["space"] == logic.model("embedding", None).space


@pytest.mark.parametrize("form", ["gifty", "infinity", "infinity_openai"])
def test_the_formats_of_runpods_handlers(
    fake: FakeProviders, road: Callable[..., HighRoad], form: str
) -> None:
    logic = logic_for("runpod", "embedding", f"providers: {{runpod: {{format: {form}}}}}")

    answer = road("runpod").router.run(call_of(logic, "embedding"))

    refuse_wrong_vectors(answer.result["embeddings"], "bge-m3")


def test_runpods_job_is_begun_and_looked_at_where_there_is_no_second_to_hold_it(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    answer = road("runpod").router.run(call_of(logic_for("runpod", "embedding"), "embedding", seconds=1))

    refuse_wrong_vectors(answer.result["embeddings"], "bge-m3")
    begun, *looks = fake.calls("runpod")
    assert (begun.method, begun.path) == ("POST", "/run")
    assert [(look.method, look.path) for look in looks] == 2 * [("GET", "/status/job-1")]


@pytest.mark.parametrize("provider", ["intelligence_api", "runpod", "together", "openrouter"])
def test_reranking(fake: FakeProviders, road: Callable[..., HighRoad], provider: str) -> None:
    answer = road(provider).router.run(call_of(logic_for(provider, "rerank"), "rerank"))

    scores = answer.result["scores"]
    assert scores[1] == min(scores)
    assert scores[0] == scores[2] > scores[1]


@pytest.mark.parametrize("provider", ["together", "openrouter", "groq", "anthropic", "gemini", "runpod"])
def test_language_models(fake: FakeProviders, road: Callable[..., HighRoad], provider: str) -> None:
    answer = road(provider).router.run(call_of(logic_for(provider, "llm"), "llm"))

    assert answer.result["content"] == "Подарите удочку."
    assert answer.result["model"].startswith(f"{provider}/")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 5)


def test_openrouter_says_itself_what_an_answer_cost(
    fake: FakeProviders, road: Callable[..., HighRoad]
) -> None:
    answer = road("openrouter").router.run(call_of(logic_for("openrouter", "llm"), "llm"))

    assert answer.cost_usd == 0.00042


@pytest.mark.parametrize("kind", ["classify", "score"])
def test_classification_and_scoring_by_the_intelligence_api(
    fake: FakeProviders, road: Callable[..., HighRoad], kind: str
) -> None:
    answer = road("intelligence_api").router.run(call_of(DEFAULT_LOGIC, kind))

    assert answer.provider == "intelligence_api"
    if kind == "score":
        assert answer.result["scores"][0]["gift_score"] == 7.5
    else:
        assert answer.result["mappings"][0]["internal_category_id"] == 7


def test_a_wrong_key_is_the_operators_affair(fake: FakeProviders, road: Callable[..., HighRoad]) -> None:
    high = road("groq", "anthropic")
    environ = high.router._access._environ
    environ["GROQ_API_KEY"] = "bad-key"
    logic = parse_logic("llm: {default_provider: groq, fallbacks: [anthropic]}")

    answers = [high.router.run(call_of(logic, "llm")) for _ in range(3)]

    assert [answer.provider for answer in answers] == ["anthropic"] * 3
    assert [answer.attempts for answer in answers] == [2, 1, 1]
    assert len(fake.calls("groq")) == 1


def test_many_texts_are_one_answer_in_their_order(fake: FakeProviders, road: Callable[..., HighRoad]) -> None:
    texts = [f"товар {number}" for number in range(250)]
    logic = logic_for("gemini", "embedding")

    answer = road("gemini").router.run(call_of(logic, "embedding", texts=texts))

    assert answer.result["embeddings"].shape == (250, 3072)
    assert [len(call.body["requests"]) for call in fake.calls("gemini")] == [100, 100, 50]


@pytest.mark.parametrize("make", [CurlTransport, PooledTransport], ids=["curl", "urllib3"])
def test_a_proxy_is_used_for_the_providers_if_the_operator_names_one(
    make: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gifty_compute.high.build_transport", make)
    logic = parse_logic(
        "embedding: {providers: [intelligence_api]}\n"
        "providers: {intelligence_api: {base_url: 'http://provider.invalid'}}"
    )
    with RawServer(answer_nothing) as proxy:
        environ = {"INTELLIGENCE_API_TOKEN": "k", "PROVIDERS_PROXY": proxy.url}
        high = build_high_road(environ, NO_REDIS, Inference(EngineShelf(), CLOCK), CLOCK, Random(1))
        with pytest.raises(NoRoute):
            high.router.run(call_of(logic, "embedding"))
        high.close()

    assert proxy.requests[0].startswith(b"POST http://provider.invalid/v1/embeddings HTTP/1.1\r\n")


def answer_nothing(connection: Connection) -> None:
    while connection.request() is not None:
        connection.answer()
