"""A worker that hangs up while it waits, before the server that production runs: it is handed nothing."""

from __future__ import annotations

import requests

from gifty_compute.core import Core
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import SubmitRequest
from tests.integration.conftest import WORKER

WAITING = "/internal/workers/tasks?worker_id=w&wait=25&lease=30"


def submit(core: Core) -> str:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["чайник"]})
    return str(core.store.submit(request, Origin(client="backend"))[0].id)


def begin(granian: str) -> requests.Response:
    """A claim that waits: its headers come when it begins to."""
    return requests.get(granian + WAITING, headers=WORKER, timeout=40, stream=True)


def test_a_worker_that_hung_up_while_it_waited_is_handed_nothing(granian: str, core: Core) -> None:
    first, second = begin(granian), begin(granian)
    first.close()

    task_id = submit(core)

    assert [(task["id"], task["attempt"]) for task in second.json()["tasks"]] == [(task_id, 1)]


def test_a_worker_that_waits_before_granian_is_answered_as_soon_as_work_comes(
    granian: str, core: Core
) -> None:
    waiting = begin(granian)

    task_id = submit(core)

    assert [task["id"] for task in waiting.json()["tasks"]] == [task_id]
    assert waiting.headers["Content-Type"] == "application/json"
