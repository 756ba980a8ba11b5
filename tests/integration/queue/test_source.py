"""SqlSource reads no task again that it has handed out, and remembers none for ever."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from gifty_compute.core import Core
from gifty_compute.queue import source as module
from gifty_compute.queue.database import Database
from gifty_compute.queue.source import SqlSource
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import Held, Holder, Outcome, SubmitRequest, Task, Want
from tests.conftest import EVERY_CLIENT

ALICE = Holder(worker_id="alice", session="1", credential="shared")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were run, in order."""
    names: list[str] = []
    rows = Database.rows

    def noted(self: Database, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        names.append(query)
        return rows(self, query, **parameters)

    monkeypatch.setattr(Database, "rows", noted)
    return names


@pytest.fixture
def source(core: Core) -> SqlSource:
    return SqlSource(core.leases, core.store)


def claimed(core: Core, source: SqlSource, count: int) -> tuple[Task, ...]:
    for number in range(count):
        request = SubmitRequest(task_type="embedding", payload={"texts": [f"чай {number}"]})
        core.store.submit(request, Origin(client="shop"))
    return source.claim(ALICE, Want(models=("multilingual-e5-small",), limit=count, claim_id=uuid4())).tasks


def done(task: Task) -> Outcome:
    vectors = np.ones((1, 384), np.float32)
    return Outcome(id=task.id, attempt=task.attempt, status="completed", result={"embeddings": vectors})


def test_what_it_handed_out_is_not_read_again_until_that_is_over(
    core: Core, source: SqlSource, ran: list[str]
) -> None:
    (task,) = claimed(core, source, 1)
    ran.clear()

    assert source.report(ALICE, [done(task)]) == [None]
    assert ran == ["complete"]
    assert source.report(ALICE, [done(task)]) == [None]
    assert ran == ["complete", "find", "complete", "stored"]


def test_what_was_given_back_or_lost_is_forgotten(core: Core, source: SqlSource) -> None:
    given, lost, kept = claimed(core, source, 3)
    source.release(ALICE, [Held(id=given.id, attempt=1)])
    core.store.cancel(EVERY_CLIENT, lost.id)
    source.extend(ALICE, [Held(id=lost.id, attempt=1), Held(id=kept.id, attempt=1)])

    assert set(source._handed) == {kept.id}


def test_it_remembers_the_newest_alone(
    core: Core, source: SqlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)

    tasks = claimed(core, source, 3)

    assert list(source._handed) == [task.id for task in tasks[1:]]
    assert source.report(ALICE, [done(task) for task in tasks]) == [None] * 3


def test_a_completed_task_without_a_result_is_refused(core: Core, source: SqlSource) -> None:
    (task,) = claimed(core, source, 1)

    [refused] = source.report(ALICE, [Outcome(id=task.id, attempt=1, status="completed")])

    assert refused is not None
    assert refused.code == "invalid_result"
    assert core.store.stored(task.id).status == "processing"
