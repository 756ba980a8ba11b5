"""The paths over the router, with the fakes of all providers behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from api import create_app
from gifty_compute.core import Core
from tests.e2e.service import eventually
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.fakes.vectors import vector
from tests.integration.conftest import API

MakeCore = Callable[..., Core]
CHAT = {"messages": [{"role": "user", "content": "Что подарить?"}]}


def test_a_score_says_who_gave_it(core_with: MakeCore) -> None:
    client = create_app(core_with()).test_client()

    answer = client.post("/v1/products/score", json={"title": "Удочка", "price": 900}, headers=API)

    assert answer.status_code == 200, answer.json
    assert (answer.json["gift_score"], answer.json["tags"]) == (7.5, ["рыбалка"])
    assert answer.headers["X-Gifty-Provider"] == "intelligence_api"


def test_a_call_that_came_from_a_facade_does_not_go_back_to_one(
    core_with: MakeCore, fake: FakeProviders
) -> None:
    client = create_app(core_with("llm: {embedding_provider: intelligence_api}")).test_client()

    answer = client.post("/v1/embeddings", json={"input": "чай"}, headers={**API, "X-Gifty-Hop": "1"})

    assert answer.status_code == 200, answer.json
    assert answer.headers["X-Gifty-Provider"] != "intelligence_api"
    assert fake.calls("intelligence_api") == []


def test_what_we_ask_of_a_facade_says_that_it_came_from_one(core_with: MakeCore, fake: FakeProviders) -> None:
    client = create_app(core_with("llm: {embedding_provider: intelligence_api}")).test_client()

    client.post("/v1/embeddings", json={"input": "чай"}, headers=API)

    assert fake.calls("intelligence_api")[0].headers["x-gifty-hop"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/products/score", {"title": "Удочка"}),
        ("/v1/embeddings", {"input": "чай"}),
    ],
)
def test_with_priority_low_it_is_a_task(core_with: MakeCore, path: str, body: dict[str, object]) -> None:
    client = create_app(core_with()).test_client()

    answer = client.post(path, json={**body, "priority": "low"}, headers=API)

    assert (answer.status_code, answer.json["status"]) == (202, "pending")


def test_places_for_long_requests_end_and_short_ones_are_answered_all_the_same(
    core_with: MakeCore, fake: FakeProviders
) -> None:
    fake.fault("anthropic", Fault.HUNG_STREAM)
    core = core_with("llm: {default_provider: anthropic}", facade_threads=4)
    client = create_app(core).test_client()
    streams = [
        client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=API, buffered=False)
        for _ in range(2)
    ]

    refused = client.post("/v1/chat/completions", json=CHAT, headers=API)
    ready = client.get("/readyz")
    for stream in streams:
        stream.close()
    fake.heal("anthropic")
    again = client.post("/v1/chat/completions", json=CHAT, headers=API)

    assert [stream.status_code for stream in streams] == [200, 200]
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert ready.status_code == 200
    assert again.status_code == 200, again.json


def test_metrics_tell_of_attempts_and_circuits_to_operators_alone(
    core_with: MakeCore, fake: FakeProviders
) -> None:
    core = core_with("llm: {embedding_provider: intelligence_api}", ops_tokens="anna:viewer:ops-token")
    client = create_app(core).test_client()
    fake.fault("intelligence_api", Fault.OVERLOADED)
    assert client.post("/v1/embeddings", json={"input": "чай"}, headers=API).status_code == 200

    refused = client.get("/metrics", headers=API)
    text = client.get("/metrics", headers={"Authorization": "Bearer ops-token"}).text

    assert refused.status_code == 401
    assert 'gifty_answers_total{path="/v1/embeddings",status="200"} 1.0' in text
    assert "overloaded" in text
    assert "gifty_logic{" in text
    assert "good-key" not in text


def test_200_swaps_of_providers_half_of_them_broken_fail_no_request_and_mix_nothing(
    core_with: MakeCore, fake: FakeProviders, tmp_path: Path
) -> None:
    """Whoever the file names answers, and the version in the header is the one that named it."""
    sides = ["runpod", "openrouter"]
    core = core_with(f"embedding: {{providers: [{sides[0]}]}}")
    app, file = create_app(core), tmp_path / "logic.yaml"
    expected = vector("bge-m3", "чай")
    seen: set[tuple[str, str]] = set()
    wrong: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        client = app.test_client()
        while not stop.is_set():
            answer = client.post("/v1/embeddings", json={"input": "чай", "timeout_ms": 10_000}, headers=API)
            if answer.status_code != 200:
                wrong.append(answer.json)
                continue
            if abs(answer.json["data"][0]["embedding"] - expected).max() > 1e-6:
                wrong.append("another vector")
            seen.add((answer.headers["X-Gifty-Config"], answer.headers["X-Gifty-Provider"]))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for swap in range(200):
        good = f"embedding: {{providers: [{sides[swap // 2 % 2]}]}}\n# {swap}"
        file.write_text("embedding: {providers: [" if swap % 2 else good)
        core.logic_watch.look()
    eventually(lambda: len({provider for _, provider in seen}) == 2, within=20, what="both were asked")
    stop.set()
    for asker in askers:
        asker.join(20)

    assert wrong == []
    versions = [version for version, _ in seen]
    assert len(versions) == len(set(versions))  # one provider a version


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (Fault.HANG, 504, "false"),
        (Fault.ERROR, 502, "false"),
        (Fault.RATE_LIMITED_WAIT, 429, None),
        (Fault.OVERLOADED, 502, "false"),
    ],
)
def test_a_client_that_repeats_by_itself_is_told_where_that_would_only_cost_more(
    core_with: MakeCore, fake: FakeProviders, fault: Fault, status: int, told: str | None
) -> None:
    """P16: three upstream calls and 7.7 s for one call of openai's client with a budget of 1.5 s."""
    fake.fault("anthropic", fault)
    client = create_app(core_with("llm: {default_provider: anthropic}")).test_client()

    answer = client.post("/v1/chat/completions", json={**CHAT, "timeout_ms": 500}, headers=API)

    assert answer.status_code == status, answer.json
    assert answer.headers.get("x-should-retry") == told


def test_when_all_providers_are_at_their_limit_the_caller_learns_the_shortest_wait_at_once(
    core_with: MakeCore, fake: FakeProviders
) -> None:
    """P23: 14 s, then 502 without Retry-After."""
    for provider in ("anthropic", "groq"):
        fake.fault(provider, Fault.RATE_LIMITED_WAIT)
    core = core_with("llm: {default_provider: anthropic, fallbacks: [groq]}")

    answer = create_app(core).test_client().post("/v1/chat/completions", json=CHAT, headers=API)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30"), answer.json
    assert (answer.json["error"]["type"], answer.json["error"]["code"]) == (
        "rate_limit_error",
        "rate_limited",
    )
    assert [len(fake.calls(provider)) for provider in ("anthropic", "groq")] == [1, 1]


def test_a_healthy_provider_answers_while_another_one_asks_for_time(
    core_with: MakeCore, fake: FakeProviders
) -> None:
    """P24."""
    fake.fault("anthropic", Fault.RATE_LIMITED_WAIT)
    core = core_with("llm: {default_provider: anthropic, fallbacks: [groq]}")

    answer = create_app(core).test_client().post("/v1/chat/completions", json=CHAT, headers=API)

    assert (answer.status_code, answer.headers["X-Gifty-Provider"]) == (200, "groq")
