"""Batches that must be done by a time: providers are paid for what workers will not make, within max_cost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api import create_app
from gifty_compute.core import Core
from gifty_compute.queue.purse import PAID_HANDS
from gifty_compute.wire.task import Holder, Want
from tests.fakes.fault import Fault
from tests.fakes.server import FakeProviders
from tests.integration.conftest import API

PRICED = """
providers:
  openrouter: {models: {"baai/bge-m3": {price: {input_per_million: 0.01}}}}
"""
ALLOWED = PRICED + "low: {embedding: {paid: true}}\n"
WORKER = Holder(worker_id="home", session="1", credential="shared")


def batch(core: Core, tasks: int, max_cost: float = 1.0) -> str:
    """A batch for bge-m3 that has been waiting for workers for an hour and must be done within another."""
    payload = {"texts": ["самовар"], "model": "bge-m3"}
    line = json.dumps({"task_type": "embedding", "payload": payload})
    answer = (
        create_app(core)
        .test_client()
        .post(
            "/v1/batches",
            data="\n".join([line] * tasks),
            query_string={"finish_by": "2999-01-01T00:00:00Z", "max_cost": str(max_cost)},
            headers={**API, "Content-Type": "application/x-ndjson"},
        )
    )
    assert answer.status_code == 202, answer.get_json()
    sql(
        core,
        "UPDATE compute_batches"
        " SET created_at = now() - interval '1 hour', finish_by = now() + interval '1 hour'",
    )
    return str(answer.get_json()["id"])


def sql(core: Core, statement: str) -> list[dict[str, Any]]:
    with core.database.connection() as connection:
        result = connection.execute(text(statement))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def statuses(core: Core) -> dict[str, int]:
    rows = sql(core, "SELECT status, count(*) AS n FROM compute_tasks GROUP BY status")
    return {row["status"]: row["n"] for row in rows}


def money(core: Core) -> tuple[Decimal, Decimal]:
    [row] = sql(core, "SELECT cost_usd, reserved_usd FROM compute_batches")
    return row["cost_usd"], row["reserved_usd"]


def shown(core: Core, batch_id: str) -> dict[str, Any]:
    return core.batches.stored(UUID(batch_id)).model_dump()


def test_without_workers_all_is_paid_for_and_each_cost_is_booked(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch_id = batch(core, 10)

    done = core.payer.look()

    assert (done, statuses(core)) == (10, {"completed": 10})
    assert money(core) == (Decimal("0.0001"), 0)
    [row] = sql(core, "SELECT DISTINCT worker_id, space, credential FROM compute_tasks")
    assert row == {"worker_id": "openrouter@paid", "space": "bge-m3", "credential": PAID_HANDS}
    assert len(fake.calls("openrouter")) == 10
    core.maintainer.run_pass()
    told = shown(core, batch_id)
    assert (told["cost_usd"], told["finished_at"] is not None) == (0.0001, True)


def test_the_plan_is_shown_with_its_share_and_cost(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch_id = batch(core, 60)

    core.payer.look()

    [part] = shown(core, batch_id)["plan"]["parts"]
    assert (part["provider"], part["workers"], part["paid"]) == ("openrouter", 0, 60)
    assert part["why"] == "the workers alone would be late"
    assert part["expected_cost_usd"] > 0
    assert statuses(core) == {"pending": 28, "completed": 32}


@pytest.mark.parametrize(
    ("logic", "why"),
    [
        (PRICED, "low.<type>.paid does not allow paid work"),
        ("low: {embedding: {paid: true}}\n", "no price is configured for openrouter"),
        (PRICED + "low: {embedding: {paid: true, providers: [runpod]}}\n", "no paid provider can be asked"),
    ],
)
def test_nobody_is_paid_without_leave_or_price(
    core_with: Callable[..., Core], fake: FakeProviders, logic: str, why: str
) -> None:
    core = core_with(logic, "openrouter")
    batch_id = batch(core, 5)

    assert core.payer.look() == 0

    assert statuses(core) == {"pending": 5}
    assert fake.calls("openrouter") == []
    [part] = shown(core, batch_id)["plan"]["parts"]
    assert part["why"] == why


def test_workers_that_make_it_leave_nothing_to_pay_for(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch(core, 40)
    sql(
        core,
        "UPDATE compute_tasks SET status = 'completed', completed_at = now(), credential = 'shared'"
        " WHERE id IN (SELECT id FROM compute_tasks LIMIT 30)",
    )

    assert core.payer.look() == 0

    assert fake.calls("openrouter") == []


def test_never_more_than_max_cost_is_spent_even_by_several_at_once(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    # Each call costs 0.00001; before it is known, four times as much is set aside.
    batch(core, 40, max_cost=0.0001)

    threads = [threading.Thread(target=core.payer.look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while core.payer.look():
        pass

    cost, reserved = money(core)
    assert Decimal(0) < cost + reserved <= Decimal("0.0001")
    assert len(fake.calls("openrouter")) <= 10
    assert statuses(core)["pending"] >= 30


def test_a_provider_that_fails_harms_no_task_and_what_it_may_have_cost_counts(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch(core, 3)
    fake.fault("openrouter", Fault.ERROR)

    core.payer.look()

    assert statuses(core) == {"pending": 3}
    assert sql(core, "SELECT max(failures) AS n FROM compute_tasks") == [{"n": 0}]
    cost, reserved = money(core)
    assert (cost > 0, reserved) == (True, 0)


def test_a_worker_that_was_quicker_costs_nothing(
    core_with: Callable[..., Core], fake: FakeProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch(core, 2)
    some = core.payer._purses.some

    def some_late(*arguments: Any) -> Any:
        found = some(*arguments)
        core.leases.claim(WORKER, Want(models=("bge-m3",), limit=10, claim_id=uuid4()))
        return found

    monkeypatch.setattr(core.payer._purses, "some", some_late)

    core.payer.look()

    assert money(core) == (0, 0)
    assert fake.calls("openrouter") == []


def test_whoever_dies_with_money_set_aside_has_spent_it(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch_id = batch(core, 5, max_cost=0.00005)
    assert core.payer._purses.set_aside(UUID(batch_id), 0.00004)

    assert core.payer.look() == 0

    assert fake.calls("openrouter") == []


# -- the client whose batch it is ----------------------------------------------------------------------------


def share(core: Core) -> None:
    """What a running facade does every second."""
    assert core.high.bookkeeper is not None
    core.high.bookkeeper.refresh()


def test_paid_tasks_count_as_the_spending_of_the_batchs_client(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED, "openrouter")
    batch(core, 10)
    share(core)

    core.payer.look()
    share(core)

    [row] = sql(core, "SELECT provider, model, client, usd, answers FROM compute_spending")
    assert row == {
        "provider": "openrouter",
        "model": "baai/bge-m3",
        "client": "backend",
        "usd": Decimal("0.0001"),
        "answers": 10,
    }


def test_a_client_without_dollars_left_has_no_task_paid_for(
    core_with: Callable[..., Core], fake: FakeProviders
) -> None:
    core = core_with(ALLOWED + "clients: {backend: {usd_per_day: 0.00005}}\n", "openrouter")
    batch(core, 40)
    share(core)

    # Tasks are begun four at once: what is under way when the dollars end is paid beyond them.
    core.payer.look()
    paid = len(fake.calls("openrouter"))
    again = core.payer.look()

    assert 5 <= paid <= 8
    assert (again, len(fake.calls("openrouter"))) == (0, paid)
    assert statuses(core) == {"completed": paid, "pending": 40 - paid}
    assert money(core)[1] == 0
