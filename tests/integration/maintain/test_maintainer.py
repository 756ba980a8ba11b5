"""Passes of maintain: one at a time, each measured."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import text

from gifty_compute.core import Core
from gifty_compute.queue.sql import QUERIES
from gifty_compute.wire.task import Holder, Want
from tests.integration.conftest import OPS


def metric(client: FlaskClient, name: str) -> float:
    lines = client.get("/metrics", headers=OPS).text.splitlines()
    [value] = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
    return float(value)


def test_a_pass_says_what_it_did_and_is_measured(client: FlaskClient, core: Core, submit: Any) -> None:
    submit()
    core.leases.claim(Holder(worker_id="w", credential="c"), Want(task_types=("embedding",)))
    with core.database.connection() as connection:
        connection.execute(text("UPDATE compute_tasks SET lease_expires_at = now() - interval '1 second'"))

    report = core.maintainer.run_pass()

    assert report is not None
    assert (report["rescued"], report["placed"]) == (1, 0)
    assert "rescued 1" in str(report)
    assert metric(client, 'gifty_maintained_total{what="rescued"}') == 1
    assert metric(client, "gifty_maintain_seconds_count") == 1
    assert (
        abs(metric(client, "gifty_maintain_last_pass_timestamp_seconds") - core.clock.now().timestamp()) < 60
    )


def test_while_another_process_is_at_it_no_pass_is_made_and_none_is_counted(
    client: FlaskClient, core: Core
) -> None:
    with core.database.connection() as other:
        other.execute(QUERIES["try_lock"])

        report = core.maintainer.run_pass()

        other.execute(QUERIES["unlock"])
    assert report is None
    assert metric(client, "gifty_maintain_seconds_count") == 0
