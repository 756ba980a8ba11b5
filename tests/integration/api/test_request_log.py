"""Friction 3: the request id finds in the log which provider was asked, for which client, and why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from gifty_compute.logging import JsonLines
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API, OPS

CHAT = {"messages": [{"role": "user", "content": "Подарок для Анны 7261"}]}
NAMED = {**API, "X-Request-Id": "r-1"}


class Lines(logging.Handler):
    """All lines as they would stand in the log."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.all: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(json.loads(self.format(record)))

    def of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line.get("request_id") == request_id]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def client(core_with: Callable[..., Core], fake: FakeProviders) -> FlaskClient:
    logic = "llm: {default_provider: groq, fallbacks: [openrouter]}"
    return create_app(core_with(logic, "groq", "openrouter")).test_client()


def test_a_request_that_failed_is_told_with_each_attempt_and_its_end(
    client: FlaskClient, fake: FakeProviders, lines: Lines
) -> None:
    fake.fault("groq", Fault.BAD_KEY)
    fake.fault("openrouter", Fault.OVERLOADED)

    answer = client.post("/v1/chat/completions", json=CHAT, headers=NAMED)

    assert answer.status_code == 502
    told = lines.of("r-1")
    assert {line["client"] for line in told} == {"backend"}
    attempts = [line for line in told if line["event"].startswith("provider ")]
    assert [(one["provider"], one["code"], one["status"]) for one in attempts] == [
        ("groq", "bad_key", 401),
        ("openrouter", "overloaded", 503),
    ]
    assert all("as scripted" in one["reason"] and one["model"] for one in attempts)
    [end] = [line for line in told if line["event"].startswith("POST ")]
    assert (end["level"], end["method"], end["path"]) == ("warning", "POST", "/v1/chat/completions")
    assert (end["status"], end["code"]) == (502, answer.json["error"]["code"])
    assert "groq: bad_key" in end["reason"]
    assert end["milliseconds"] > 0
    assert "7261" not in json.dumps(lines.all, ensure_ascii=False)


def test_an_attempt_that_failed_before_another_one_answered_is_told_too(
    client: FlaskClient, fake: FakeProviders, lines: Lines
) -> None:
    fake.fault("groq", Fault.BAD_REQUEST)

    assert client.post("/v1/chat/completions", json=CHAT, headers=NAMED).status_code == 200

    [attempt] = [line for line in lines.of("r-1") if line["event"].startswith("provider ")]
    assert (attempt["provider"], attempt["client"], attempt["status"]) == ("groq", "backend", 400)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "pattern"),
    [
        ("POST", "/v1/chat/completions", API, {"messages": []}, 422, "/v1/chat/completions"),
        ("GET", "/v1/tasks/nomen7d2e", API, None, 404, "/v1/tasks/<task_id>"),
        ("GET", "/nomen7d2e", API, None, 404, "none"),
        ("GET", "/v1/tasks", {}, None, 401, "/v1/tasks"),
        ("PUT", "/v1/tasks", API, None, 405, "none"),
    ],
)
def test_a_refusal_is_one_note_without_the_words_of_its_caller(
    client: FlaskClient,
    lines: Lines,
    method: str,
    path: str,
    headers: dict[str, str],
    body: Any,
    status: int,
    pattern: str,
) -> None:
    answer = client.open(path, method=method, json=body, headers={**headers, "X-Request-Id": "r-2"})

    assert answer.status_code == status
    [line] = lines.of("r-2")
    assert (line["level"], line["status"], line["path"]) == ("info", status, pattern)
    assert line["code"] == answer.json["error"]["code"]
    assert line.get("client") == ("backend" if headers and pattern != "none" else None)
    assert "nomen7d2e" not in json.dumps(line)


def test_a_request_that_went_well_is_no_line(client: FlaskClient, lines: Lines) -> None:
    assert client.post("/v1/chat/completions", json=CHAT, headers=NAMED).status_code == 200

    assert lines.of("r-1") == []


def test_after_a_request_lines_are_nobodys(client: FlaskClient, lines: Lines) -> None:
    client.get("/v1/tasks/x", headers=NAMED)

    logging.getLogger("after").warning("something else")

    assert "request_id" not in lines.all[-1]


@pytest.mark.parametrize("fault", [Fault.CUT_STREAM])
def test_a_stream_that_breaks_off_is_told_with_its_request(
    client: FlaskClient, fake: FakeProviders, lines: Lines, fault: Fault
) -> None:
    fake.fault("groq", fault)

    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=NAMED)

    assert answer.status_code == 200
    assert b'"error"' in answer.data
    told = lines.of("r-1")
    assert {line["client"] for line in told} == {"backend"}
    assert [line["provider"] for line in told if "breaks off" in line["event"]] == ["groq"]
    assert [line["code"] for line in told if line["event"].startswith("provider ")] == ["connection_lost"]


def test_what_a_hedge_asks_in_another_thread_is_told_with_its_request(
    core_with: Callable[..., Core], fake: FakeProviders, lines: Lines
) -> None:
    logic = (
        "llm: {embedding_provider: openrouter}\n"
        "routing: {hedge: {percentile: 51, max_share: 0.5}, breaker: {failures: 1000, config_seconds: 0.001}}"
    )
    client = create_app(core_with(logic, "openrouter")).test_client()
    for _ in range(25):
        assert client.post("/v1/embeddings", json={"input": "чай"}, headers=API).status_code == 200
    fake.fault("openrouter", Fault.BAD_REQUEST)

    client.post("/v1/embeddings", json={"input": "мёд"}, headers=NAMED)

    attempts = [line for line in lines.of("r-1") if line["event"].startswith("provider ")]
    assert attempts
    assert {line["client"] for line in attempts} == {"backend"}


def test_the_operator_that_closed_a_circuit_is_in_the_line(
    client: FlaskClient, fake: FakeProviders, lines: Lines
) -> None:
    fake.fault("groq", Fault.BAD_KEY)
    client.post("/v1/chat/completions", json=CHAT, headers=API)

    client.post("/ops/circuits/close", json={"name": "groq"}, headers={**OPS, "X-Request-Id": "r-3"})

    [line] = lines.of("r-3")
    assert (line["operator"], line["client"]) == ("anna", "anna:operator")
