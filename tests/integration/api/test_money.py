"""What providers are paid is counted and bounded, over HTTP with real stores (cases P1-P4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from pydantic import SecretStr

from api import create_app
from gifty_compute.core import Core
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.spending import SpendingTable
from tests.conftest import LOCAL_LOGIC
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


def chat(client: FlaskClient, headers: dict[str, str] = API, **fields: Any) -> Any:
    body = {"model": "fast", "messages": [{"role": "user", "content": "привет"}], **fields}
    return client.post("/v1/chat/completions", json=body, headers=headers)


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


# -- what a budget outlives ----------------------------------------------------------------------------------


def test_a_flush_of_redis_and_a_new_process_forget_no_dollar(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    first = core_with(BUDGET, "groq")
    share(first)
    assert chat(create_app(first).test_client()).status_code == 200

    share(first)
    store.flushdb()
    second = core_with(BUDGET, "groq")
    share(second)

    assert chat(create_app(second).test_client()).status_code == 503
    assert second.high.budgets.spent_usd("groq") == pytest.approx(ANSWER_USD)


def test_a_process_that_is_told_to_stop_writes_what_it_spent(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    first = core_with(BUDGET, "groq")
    share(first)
    assert chat(create_app(first).test_client()).status_code == 200

    first.high.close()

    second = core_with(BUDGET, "groq")
    share(second)
    assert second.high.budgets.spent_usd("groq") == pytest.approx(ANSWER_USD)


def test_before_postgresql_has_answered_once_a_budget_is_closed_and_the_reason_told(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    away = SecretStr("postgresql://gifty@127.0.0.1:1/gifty")
    core = core_with(BUDGET, "groq", database_url=away)
    client = create_app(core).test_client()
    with pytest.raises(StoreUnavailable):
        share(core)

    refused = chat(client)

    assert refused.status_code == 503
    assert "its budget cannot be counted before PostgreSQL answers" in refused.json["error"]["message"]
    assert fake.calls("groq") == []


def test_an_edited_file_that_sets_a_budget_counts_what_was_spent_before(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    free = core_with(BUDGET.replace("    budget_usd_per_day: 0.0005\n", ""), "groq")
    share(free)
    assert chat(create_app(free).test_client()).status_code == 200
    share(free)

    budgeted = core_with(BUDGET, "groq")
    share(budgeted)

    assert chat(create_app(budgeted).test_client()).status_code == 503


def test_each_row_is_of_a_day_a_provider_a_model_and_a_client(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(BUDGET.replace("0.0005", "1"), "groq")
    client = create_app(core).test_client()
    share(core)

    for model in ("fast", "smart", "fast"):
        assert chat(client, model=model).status_code == 200
    share(core)
    share(core)

    found = SpendingTable(core.database).since(core.clock.now().date())
    assert sorted((line.provider, line.model, line.client, amount.answers) for line, amount in found) == [
        ("groq", "openai/gpt-oss-120b", "backend", 1),
        ("groq", "openai/gpt-oss-20b", "backend", 2),
    ]
    assert sum(amount.usd for _, amount in found) == pytest.approx(3 * ANSWER_USD)


# -- one client ----------------------------------------------------------------------------------------------

PRICED = BUDGET.replace("    budget_usd_per_day: 0.0005\n", "")
OTHER = {"Authorization": "Bearer jobs-token"}


def test_a_client_that_has_spent_its_dollars_is_429_until_midnight_and_no_other(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(f"{PRICED}\nclients: {{backend: {{usd_per_day: 0.0005}}}}", "groq")
    client = create_app(core).test_client()
    share(core)

    first, second = chat(client), chat(client)
    share(core)
    store.flushdb()
    third, other = chat(client), chat(client, headers=OTHER)

    assert [answer.status_code for answer in (first, second, third, other)] == [200, 429, 429, 200]
    assert second.json["error"]["code"] == "over_limit"
    assert 1 <= int(second.headers["Retry-After"]) <= 86_400


def test_a_client_without_dollars_may_still_use_the_packaged_model(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    local = LOCAL_LOGIC.read_text() + "clients: {backend: {usd_per_day: 0.0005}}\n"
    client = create_app(core_with(local)).test_client()

    answer = client.post("/v1/embeddings", json={"input": "чай"}, headers=API)

    assert answer.status_code == 200


def test_a_model_without_a_price_is_not_asked_for_a_client_with_dollars_of_its_own(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    core = core_with(f"{PRICED}\nclients: {{backend: {{usd_per_day: 1}}}}", "groq")
    client = create_app(core).test_client()
    share(core)

    refused = chat(client, model="groq/not-in-the-file")
    other = chat(client, model="groq/not-in-the-file", headers=OTHER)

    assert (refused.status_code, other.status_code) == (422, 200)
    assert "backend may spend so many dollars a day" in refused.json["error"]["message"]


def test_a_clients_tokens_of_a_minute_are_what_its_answers_used(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    """An answer of the fake is 14 tokens."""
    core = core_with("llm: {default_provider: groq}\nclients: {backend: {tokens_per_minute: 20}}", "groq")
    client = create_app(core).test_client()
    wait_for_room_in_the_minute(core)

    first, second, third = chat(client), chat(client), chat(client)
    other = chat(client, headers=OTHER)

    assert [answer.status_code for answer in (first, second, third, other)] == [200, 200, 429, 200]
    assert 1 <= int(third.headers["Retry-After"]) <= 60


def test_a_client_may_have_a_limit_of_requests_of_its_own_and_reading_does_not_open_it(
    core_with: Callable[..., Core], fake: FakeProviders, store: redis.Redis
) -> None:
    """Of 5 a minute 55 were let through."""
    core = core_with("limits: {requests_per_minute: 9}\nclients: {backend: {requests_per_minute: 5}}")
    client = create_app(core).test_client()
    wait_for_room_in_the_minute(core)

    answers = []
    for _ in range(5):
        answers += [client.get("/v1/tasks", headers=API).status_code for _ in range(4)]
        share(core)
        age(store, 3)
        share(core)

    assert answers == [200] * 5 + [429] * 15
    assert [client.get("/v1/tasks", headers=OTHER).status_code for _ in range(10)] == [200] * 9 + [429]


def half_of_a_json(path: str, body: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"a": '}, "finish_reason": "length"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def wait_for_room_in_the_minute(core: Core) -> None:
    """Lets a minute that is nearly over pass, so that the test fits into one."""
    seconds = core.clock.now().timestamp() % 60
    if seconds > 50:
        core.clock.sleep(60 - seconds)
