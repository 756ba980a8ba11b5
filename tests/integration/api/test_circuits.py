"""Friction 4: circuits that operators can read, with reasons, and close by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API, OPS, WORKER

CHAT = {"messages": [{"role": "user", "content": "Что подарить?"}]}
LOGIC = "llm: {default_provider: groq}\nrouting: {breaker: {config_seconds: 300}}"
VIEWER = {"Authorization": "Bearer viewer-token"}


@pytest.fixture
def client(core_with: Callable[..., Core], fake: FakeProviders) -> FlaskClient:
    core = core_with(LOGIC, "groq")
    fake.fault("groq", Fault.BAD_KEY)
    return create_app(core).test_client()


def chat(client: FlaskClient) -> tuple[int, str]:
    answer = client.post("/v1/chat/completions", json=CHAT, headers=API)
    said: dict[str, str] = answer.json.get("error", {})
    return answer.status_code, said.get("message", "")


def test_the_first_call_and_all_later_ones_say_the_reason(client: FlaskClient) -> None:
    first, second = chat(client), chat(client)

    assert first == (502, "every provider failed (groq: bad_key)")
    assert second[0] == 503
    assert second[1].startswith("every provider must be left alone for now (groq: bad_key, 300 s left")


def test_an_operator_reads_the_providers_own_words_and_a_caller_does_not(client: FlaskClient) -> None:
    _, said = chat(client)

    [circuit] = client.get("/ops/circuits", headers=VIEWER).json["circuits"]

    assert circuit["circuit"].startswith("groq/1/llm/")
    assert (circuit["provider"], circuit["state"], circuit["status"]) == ("groq", "open", 401)
    assert (circuit["code"], circuit["failures"]) == ("bad_key", 1)
    assert 290 < circuit["seconds_left"] <= 300
    assert "as scripted" in circuit["reason"]
    assert "as scripted" not in said


def test_closed_by_hand_the_provider_is_asked_at_once(
    client: FlaskClient, fake: FakeProviders, caplog: pytest.LogCaptureFixture
) -> None:
    chat(client)
    fake.heal("groq")

    with caplog.at_level(logging.WARNING):
        answer = client.post("/ops/circuits/close", json={"name": "groq"}, headers=OPS)

    assert answer.status_code == 200, answer.json
    [name] = answer.json["closed"]
    assert name.startswith("groq/1/llm/")
    assert chat(client)[0] == 200
    assert client.get("/ops/circuits", headers=OPS).json == {"circuits": []}
    [line] = [vars(one) for one in caplog.records if "by hand" in one.getMessage()]
    assert (line["operator"], line["circuits"]) == ("anna", [name])


@pytest.mark.parametrize("name", ["openrouter", "groq/1", "нет такого"])
def test_a_name_that_is_no_open_circuit_is_404(client: FlaskClient, name: str) -> None:
    chat(client)

    answer = client.post("/ops/circuits/close", json={"name": name}, headers=OPS)

    assert answer.status_code == 404
    assert chat(client)[0] == 503


@pytest.mark.parametrize("headers", [{}, API, WORKER, VIEWER])
def test_only_an_operator_closes(client: FlaskClient, headers: dict[str, str]) -> None:
    chat(client)

    answer = client.post("/ops/circuits/close", json={"name": "groq"}, headers=headers)

    assert answer.status_code == 401
    assert chat(client)[0] == 503


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 301}, {"name": 7}, {"name": "a", "b": 1}])
def test_a_body_of_another_form_is_422(client: FlaskClient, body: dict[str, object]) -> None:
    assert client.post("/ops/circuits/close", json=body, headers=OPS).status_code == 422


def test_one_process_closes_it_for_the_others_within_a_look(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    cores = [core_with(LOGIC, "groq") for _ in range(2)]
    clients = [create_app(core).test_client() for core in cores]
    fake.fault("groq", Fault.BAD_KEY)
    assert [chat(client)[0] for client in clients] == [502, 502]
    fake.heal("groq")

    clients[0].post("/ops/circuits/close", json={"name": "groq"}, headers=OPS)
    for core in cores:
        core.high.sync.refresh()

    assert [chat(client)[0] for client in clients] == [200, 200]
