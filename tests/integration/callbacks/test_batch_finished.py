"""The callback of a batch: told once it has ended, with the batch as the API shows it."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from gifty_compute.core import Core
from tests.conftest import EVERY_CLIENT
from tests.integration.callbacks.conftest import complete, good, got, until
from tests.integration.conftest import API
from tests.integration.queue.batches import body, line
from tests.integration.transport.conftest import RawServer

LINES = {**API, "Content-Type": "application/x-ndjson"}


def test_the_end_of_a_batch_is_told_and_so_is_that_of_a_task_in_it(client: FlaskClient, core: Core) -> None:
    with RawServer(good) as server:
        lines = body(2) + line("чайник 2", callback_url=f"{server.url}/task")
        path = f"/v1/batches?callback_url={server.url}/batch"
        batch = client.post(path, data=lines, headers=LINES).json
        for task in core.store.page(EVERY_CLIENT, limit=10, batch_id=UUID(batch["id"]))[0]:
            complete(core, task)

        core.maintainer.run_pass()
        core.callbacks.start()
        told = until(
            lambda: {one.line.split()[1]: one for one in got(server)} if len(got(server)) > 1 else None
        )

    told = {one.line.split()[1]: one for one in got(server)}
    shown = client.get(f"/v1/batches/{batch['id']}", headers=API).json
    assert set(told) == {"/batch", "/task"}
    assert told["/batch"].id == f"{batch['id']}.1.batch.finished"
    assert told["/batch"].json["type"] == "batch.finished"
    assert told["/batch"].json["data"] == shown
    assert shown["counts"]["completed"] == 3
    assert told["/task"].json["data"]["batch_id"] == batch["id"]


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("callback_url=http://10.0.0.1/", body(1)),
        ("", line("a") + line("b", callback_url="http://10.0.0.1/")),
    ],
)
def test_a_receiver_that_may_not_be_called_is_refused_for_the_whole_and_in_a_line(
    client: FlaskClient, core: Core, query: str, data: bytes
) -> None:
    answer = client.post(f"/v1/batches?{query}", data=data, headers=LINES)

    assert (answer.status_code, answer.json["error"]["code"]) == (422, "callback_refused")
    assert ("line 2" in answer.json["error"]["message"]) == (not query)
    assert core.store.page(EVERY_CLIENT, limit=1) == ([], None)
    assert json.loads(answer.data)["error"]["param"] == "callback_url"
