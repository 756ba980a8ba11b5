"""What providers are paid is counted and bounded, over HTTP with real stores (cases P1-P4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from api import create_app
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API

# The fakes count 9 tokens in and 5 out: one answer is 0.00059 $.
ANSWER_USD = 0.00059
BUDGET = """
llm: {default_provider: groq}
providers:
  groq:
    budget_usd_per_day: 0.0005
    models:
      openai/gpt-oss-20b: {price: {input_per_million: 10, output_per_million: 100}}
      openai/gpt-oss-120b: {price: {input_per_million: 10, output_per_million: 100}}
"""
LIMIT = """
llm: {default_provider: groq}
providers: {groq: {limits: {requests_per_minute: 3}}}
"""


@pytest.fixture
def store(valkey: Valkey) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(valkey.url)
    client.flushdb()
    yield client
    client.close()


def share(core: Core) -> None:
    """One round of what a running facade does every second: the exchange with Redis and PostgreSQL."""
    core.high.sync.refresh()
    assert core.high.bookkeeper is not None
    core.high.bookkeeper.refresh()


def age(store: redis.Redis, seconds: float) -> None:
    """Lets so many seconds of each key's life pass."""
    for key in store.scan_iter("gifty:*"):
        left = store.pttl(key) - round(seconds * 1000)
        if store.ttl(key) >= 0:
            store.pexpire(key, left) if left > 0 else store.delete(key)


def chat(client: FlaskClient, **fields: Any) -> Any:
    body = {"model": "fast", "messages": [{"role": "user", "content": "привет"}], **fields}
    return client.post("/v1/chat/completions", json=body, headers=API)


def statuses(client: FlaskClient, times: int) -> list[int]:
    return [chat(client).status_code for _ in range(times)]


def test_p1_a_spent_budget_stays_spent_until_midnight(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(BUDGET, "groq")
    client = create_app(core).test_client()
    share(core)

    at_once = statuses(client, 2)
    share(core)
    age(store, 3)
    share(core)
    later = chat(client)

    assert (at_once, later.status_code) == ([200, 503], 503)
    assert int(later.headers["Retry-After"]) > 1
    assert len(fake.calls("groq")) == 1


def test_p2_a_providers_limit_of_a_minute_does_not_open_again_within_it(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(LIMIT, "groq")
    client = create_app(core).test_client()
    share(core)
    wait_for_room_in_the_minute(core)

    first = statuses(client, 6)
    share(core)
    age(store, 3)
    share(core)

    assert first == [200] * 3 + [503] * 3
    assert statuses(client, 2) == [503, 503]


def test_p3_a_model_without_a_price_is_not_asked_under_a_budget(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    client = create_app(core_with(BUDGET, "groq")).test_client()

    refused = chat(client, model="groq/not-in-the-file")

    assert refused.status_code == 422
    assert "providers.groq.models.not-in-the-file.price" in refused.json["error"]["message"]
    assert fake.calls("groq") == []


def test_p4_an_answer_that_is_thrown_away_is_paid_all_the_same(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(BUDGET, "groq")
    client = create_app(core).test_client()
    share(core)
    fake.vendors["groq"] = replace(fake.vendors["groq"], answer=half_of_a_json)

    answers = [chat(client, response_format={"type": "json_object"}).status_code for _ in range(4)]

    assert answers == [502, 503, 503, 503]
    assert len(fake.calls("groq")) == 1


def half_of_a_json(path: str, body: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"a": '}, "finish_reason": "length"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def wait_for_room_in_the_minute(core: Core) -> None:
    """Lets a minute that is nearly over pass, so that the test fits into one."""
    seconds = core.clock.now().timestamp() % 60
    if seconds > 50:
        core.clock.sleep(60 - seconds)
