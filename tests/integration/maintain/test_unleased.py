"""Rows that code beside the service made `processing`: the old route, while it is still mounted (F4b)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from gifty_compute.core import Core
from gifty_compute.errors import LeaseLost
from gifty_compute.queue.sql import QUERIES
from gifty_compute.wire.task import Held, Holder, Want

HOLDER = Holder(worker_id="new", session="s", credential="shared")
VECTORS = {"embeddings": [[0.5] * 384]}


def claimed_by_the_old_route(core: Core, task_id: Any) -> None:
    """What the old route writes: three columns of the contract, and none of those that it cannot know."""
    with core.database.connection() as connection:
        connection.execute(
            text(
                "UPDATE compute_tasks "
                "SET status = 'processing', worker_id = 'kaggle-old', started_at = now() "
                "WHERE id = :id AND status = 'pending'"
            ),
            {"id": str(task_id)},
        )


def row_of(core: Core, task_id: Any) -> Any:
    with core.database.connection() as connection:
        return (
            connection.execute(
                text(
                    "SELECT *, extract(epoch FROM lease_expires_at - now()) AS left_seconds "
                    "FROM compute_tasks WHERE id = :id"
                ),
                {"id": str(task_id)},
            )
            .mappings()
            .one()
        )


def run_pass(core: Core) -> Any:
    report = core.maintainer.run_pass()
    assert report is not None
    return report


def end_leases(core: Core) -> None:
    with core.database.connection() as connection:
        connection.execute(
            text("UPDATE compute_tasks SET lease_expires_at = lease_expires_at - interval '1 day'")
        )


def test_a_row_in_work_without_a_lease_gets_a_bare_one_and_comes_back(core: Core, submit: Any) -> None:
    task_id = submit()["id"]
    claimed_by_the_old_route(core, task_id)

    report = run_pass(core)

    row = row_of(core, task_id)
    assert report["leased"] == 1
    assert (row["status"], row["worker_id"], row["bare"]) == ("processing", "kaggle-old", True)
    assert 1700 < row["left_seconds"] <= core.logic.file.leases.bare_seconds == row["lease_seconds"]
    end_leases(core)
    assert run_pass(core)["rescued"] == 1
    [task] = core.leases.claim(HOLDER, Want(task_types=("embedding",))).tasks
    assert str(task.id) == task_id


def test_the_length_of_the_lease_is_the_configured_one(core_with: Callable[..., Core]) -> None:
    core = core_with("leases: {bare_seconds: 120}")
    task_id = UUID(int=5)
    with core.database.connection() as connection:
        payload = json.dumps({"texts": ["чай"]})
        connection.execute(
            text("INSERT INTO compute_tasks (id, task_type, payload) VALUES (:id, 'embedding', :payload)"),
            {"id": str(task_id), "payload": payload},
        )
    claimed_by_the_old_route(core, task_id)

    run_pass(core)

    assert row_of(core, task_id)["lease_seconds"] == 120


def test_a_holder_of_before_does_not_hold_what_the_old_route_took(core: Core, submit: Any) -> None:
    """A row with a history of leases: its attempt is another one now."""
    task_id = submit()["id"]
    [task] = core.leases.claim(HOLDER, Want(task_types=("embedding",))).tasks
    held = Held(id=task.id, attempt=task.attempt)
    core.leases.release(HOLDER, [held])
    claimed_by_the_old_route(core, task_id)

    run_pass(core)

    assert row_of(core, task_id)["attempt"] == task.attempt + 1
    assert core.leases.extend(HOLDER, [held]).lost == (task.id,)
    with pytest.raises(LeaseLost):
        core.leases.fail(HOLDER, task, "out of memory")


def test_its_result_may_come_over_our_own_route(core: Core, submit: Any) -> None:
    task_id = submit()["id"]
    claimed_by_the_old_route(core, task_id)
    run_pass(core)

    task = core.store.stored(UUID(task_id)).model_copy(update={"attempt": 0})

    assert (
        core.leases.complete(Holder(worker_id="w", credential="shared"), task, VECTORS).status == "completed"
    )


def test_an_expiry_of_such_a_lease_counts_as_no_failure_of_the_task(core: Core, submit: Any) -> None:
    """Nothing says how many tasks that worker held, so it is not known which of them ended it."""
    task_id = submit()["id"]
    for _ in range(6):
        claimed_by_the_old_route(core, task_id)
        run_pass(core)
        end_leases(core)
        run_pass(core)

    row = row_of(core, task_id)
    assert (row["status"], row["failures"], row["suspect"]) == ("pending", 0, True)


def test_a_lease_that_is_there_is_left_alone_and_a_second_pass_does_nothing(core: Core, submit: Any) -> None:
    mine, others = submit()["id"], submit()["id"]
    core.leases.claim(HOLDER, Want(ids=(UUID(mine),)))
    claimed_by_the_old_route(core, others)
    before = row_of(core, mine)

    assert run_pass(core)["leased"] == 1
    lent = row_of(core, others)
    assert run_pass(core)["leased"] == 0

    after = row_of(core, mine)
    assert (after["attempt"], after["lease_expires_at"]) == (before["attempt"], before["lease_expires_at"])
    assert row_of(core, others)["lease_expires_at"] == lent["lease_expires_at"]


def test_the_search_for_such_rows_reads_those_rows_alone(core: Core) -> None:
    with core.database.connection() as connection:
        connection.execute(
            text(
                "INSERT INTO compute_tasks (task_type, model, status, payload, lease_expires_at) "
                "SELECT 'embedding', 'm', CASE WHEN n % 2 = 0 THEN 'processing' ELSE 'completed' END, '{}', "
                "CASE WHEN n % 2 = 0 AND n > 6 THEN now() + interval '1 hour' END "
                "FROM generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE compute_tasks"))
        statement = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['lease_unleased'].text}")
        [plan] = connection.execute(statement, {"bare_seconds": 1800, "limit": 1000}).scalar_one()

    scans = list(nodes(plan["Plan"], "Index Name"))
    assert not list(nodes(plan["Plan"], "Relation Name", type="Seq Scan"))
    [found] = [one for one in scans if one["Index Name"] == "ix_compute_tasks_lease"]
    assert found["Actual Rows"] == 3
    assert not found.get("Rows Removed by Filter")


def nodes(plan: Any, field: str, type: str | None = None) -> Any:
    if field in plan and type in (None, plan["Node Type"]):
        yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below, field, type)
