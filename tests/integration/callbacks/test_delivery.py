"""One try, against receivers that do everything a receiver can do."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycurl
import pytest
import trustme
from flask.testing import FlaskClient
from sqlalchemy import text
from standardwebhooks import Webhook

from gifty_compute.callbacks.addresses import is_public
from gifty_compute.callbacks.delivery import Roads
from gifty_compute.callbacks.rendering import MAX_BODY_BYTES
from gifty_compute.client.callbacks import verify_callback
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.outbox import Outbox
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.wire.batch import Batch
from gifty_compute.wire.callback import CallbackBody, LongTask
from gifty_compute.wire.task import Task, Want
from tests.conftest import EVERY_CLIENT
from tests.integration.callbacks.conftest import (
    HOLDER,
    OLDER,
    SECRET,
    VECTOR,
    a_day_passes,
    answering,
    complete,
    delivery,
    good,
    got,
    leased,
    leases_run_out,
    sql,
    stored,
)
from tests.integration.conftest import API
from tests.integration.transport.conftest import Connection, RawServer, Script

Ends = Callable[..., Task]


def test_a_completed_task_is_told_in_full(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        task = ended(server.url + "/hook?key=1", metadata={"order": 7})

        outcome = delivery(core).deliver(leased(core))

    [callback] = got(server)
    assert outcome == "delivered"
    assert callback.line == "POST /hook?key=1 HTTP/1.1"
    assert callback.headers["content-type"] == "application/json"
    assert callback.id == f"{task.id}.1.task.completed"
    assert isinstance(CallbackBody.model_validate_json(callback.body).data, Task)
    assert callback.json["type"] == "task.completed"
    assert callback.json["timestamp"].endswith("Z")
    data = callback.json["data"]
    assert (data["id"], data["status"], data["metadata"]) == (str(task.id), "completed", {"order": 7})
    assert data["result"]["embeddings"] == [(np.arange(384, dtype=np.float32) + 1).tolist()]
    row = stored(core)
    assert row.delivered_at is not None
    assert (row.due_at, row.dead_at, row.error, row.tries) == (None, None, None, 1)


def test_a_failed_task_is_told_with_its_error(core: Core, submitted: Ends) -> None:
    with RawServer(good) as server:
        task = submitted(server.url, max_attempts=1)
        [claimed] = core.leases.claim(HOLDER, Want(ids=(task.id,))).tasks
        core.leases.fail(HOLDER, claimed, "the model is on fire")

        delivery(core).deliver(leased(core))

    [callback] = got(server)
    assert callback.id == f"{task.id}.1.task.failed"
    assert (callback.json["data"]["status"], callback.json["data"]["error"]) == (
        "failed",
        "the model is on fire",
    )


def test_a_cancelled_task_is_told_to_nobody(core: Core, submitted: Ends) -> None:
    core.store.cancel(EVERY_CLIENT, submitted("http://127.0.0.1:1/").id)

    assert core.callbacks.outbox.lease(limit=10) == []


def test_a_finished_batch_is_told_once_with_its_counts_beside_the_tasks_of_its_own_lines(
    core: Core, client: FlaskClient
) -> None:
    line = {"task_type": "embedding", "payload": {"texts": ["чай"]}}
    with RawServer(good) as server:
        lines = [line, {**line, "callback_url": f"{server.url}/line"}]
        batch = client.post(
            f"/v1/batches?callback_url={server.url}/batch",
            data="\n".join(map(json.dumps, lines)),
            headers={**API, "Content-Type": "application/x-ndjson"},
        ).json
        for task in core.leases.claim(HOLDER, Want(task_types=("embedding",))).tasks:
            core.leases.complete(HOLDER, task, {"embeddings": VECTOR})
        core.maintainer.run_pass()
        core.maintainer.run_pass()
        for callback in core.callbacks.outbox.lease(limit=9) + core.callbacks.outbox.lease(limit=9):
            delivery(core).deliver(callback)

    told = {one.line.split()[1]: one for one in got(server)}
    assert len(server.requests) == 2
    assert told["/line"].json["type"] == "task.completed"
    assert told["/line"].json["data"]["batch_id"] == batch["id"]
    whole = told["/batch"]
    assert isinstance(CallbackBody.model_validate_json(whole.body).data, Batch)
    assert whole.id == f"{batch['id']}.1.batch.finished"
    assert (whole.json["type"], whole.json["data"]["id"]) == ("batch.finished", batch["id"])
    assert (whole.json["data"]["total"], whole.json["data"]["counts"]["completed"]) == (2, 2)
    assert whole.json["data"]["finished_at"].endswith("Z")


def test_each_generation_is_told_under_an_id_of_its_own(core: Core, submitted: Ends) -> None:
    with RawServer(good) as server:
        task = submitted(server.url, max_attempts=1)
        [claimed] = core.leases.claim(HOLDER, Want(ids=(task.id,))).tasks
        core.leases.fail(HOLDER, claimed, "once")
        delivery(core).deliver(leased(core))
        core.store.retry(EVERY_CLIENT, task.id)
        complete(core, task)
        delivery(core).deliver(leased(core))

    assert [one.id for one in got(server)] == [f"{task.id}.1.task.failed", f"{task.id}.2.task.completed"]


def test_every_secret_of_a_rotation_verifies_it_the_newest_first(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        ended(server.url)
        delivery(core).deliver(leased(core))

    [callback] = got(server)
    for secret in (SECRET, OLDER):
        assert Webhook(secret).verify(callback.body, callback.headers)["type"] == "task.completed"
        assert verify_callback(callback.headers, callback.body, secret).task.status == "completed"
    newest = callback.headers["webhook-signature"].split()[0]
    alone = {**callback.headers, "webhook-signature": newest}
    assert Webhook(SECRET).verify(callback.body, alone)


def test_the_request_id_of_the_submit_goes_along(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        task = ended(server.url)
        sql(core, "UPDATE compute_tasks SET request_id = 'req-77' WHERE id = :id", id=str(task.id))
        delivery(core).deliver(leased(core))

    assert got(server)[0].headers["x-request-id"] == "req-77"


def silent(conn: Connection) -> None:
    conn.request()
    conn.wait(60)


def drip(conn: Connection) -> None:
    conn.request()
    conn.send(b"HTTP/1.1 200 OK\r\n")
    while not conn.wait(0.05):
        conn.send(b"X: y\r\n")


def hang_up(conn: Connection) -> None:
    conn.request()


def nonsense(conn: Connection) -> None:
    conn.request()
    conn.send(b"\x00\x01 what?\r\n\r\n")


BAD: dict[str, tuple[Script, str]] = {
    "500": (answering("500 Oh"), "answered 500"),
    "404": (answering("404 Not Found"), "answered 404"),
    "410": (answering("410 Gone"), "answered 410"),
    "304": (answering("304 Not Modified"), "answered 304"),
    "hang": (silent, "did not answer in time"),
    "drip": (drip, "did not answer in time"),
    "hang up": (hang_up, "was lost"),
    "nonsense": (nonsense, "was lost"),
}


@pytest.mark.parametrize(("script", "error"), BAD.values(), ids=BAD)
def test_anything_but_2xx_is_tried_again_later(core: Core, ended: Ends, script: Script, error: str) -> None:
    with RawServer(script) as server:
        ended(server.url)

        outcome = delivery(core, seconds=0.5).deliver(leased(core))

    row = stored(core)
    assert outcome == "failed"
    assert row.error is not None
    assert error in row.error
    assert (row.delivered_at, row.dead_at, row.tries) == (None, None, 1)
    assert row.due_at is not None
    assert 0 <= (row.due_at - row.created_at).total_seconds() < 10


def test_nobody_there_is_tried_again_later(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        url = server.url
    ended(url)

    assert delivery(core).deliver(leased(core)) == "failed"
    assert "cannot be reached" in (stored(core).error or "")


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_not_followed(core: Core, ended: Ends, status: str) -> None:
    with (
        RawServer(good) as elsewhere,
        RawServer(answering(status, f"Location: {elsewhere.url}\r\n")) as server,
    ):
        ended(server.url)

        outcome = delivery(core).deliver(leased(core))

    assert outcome == "failed"
    assert (len(server.requests), elsewhere.connections) == (1, 0)
    assert stored(core).error == f"answered {status[:3]}"


def test_of_a_huge_answer_only_the_status_is_taken(core: Core, ended: Ends) -> None:
    sent: list[int] = []

    def huge(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            for _ in range(1000):
                conn.send(b"x" * 1_000_000)
                sent.append(1_000_000)
        except ConnectionError:
            pass

    with RawServer(huge) as server:
        ended(server.url)
        outcome = delivery(core).deliver(leased(core))

    assert outcome == "delivered"
    assert sum(sent) < 100_000_000


def test_a_body_that_drips_for_ever_does_not_matter(core: Core, ended: Ends) -> None:
    def body(conn: Connection) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not conn.wait(0.05):
            conn.send(b"x")

    with RawServer(body) as server:
        ended(server.url)

        assert delivery(core, seconds=20).deliver(leased(core)) == "delivered"


def test_a_proxy_of_the_environment_is_not_used(
    core: Core, ended: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(good) as proxy, RawServer(good) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        ended(server.url)

        assert delivery(core).deliver(leased(core)) == "delivered"

    assert proxy.connections == 0


class ResolvingTransport(CurlTransport):
    """Knows where receiver.test is."""

    def __init__(self, port: int, address: str = "127.0.0.1", **options: Any) -> None:
        super().__init__(**options)
        self._known = f"receiver.test:{port}:{address}"

    def _new_handle(self) -> Any:
        handle = super()._new_handle()
        handle.setopt(pycurl.RESOLVE, [self._known])
        return handle


@pytest.mark.parametrize(("name", "outcome"), [("receiver.test", "delivered"), ("other.test", "failed")])
def test_the_certificate_must_be_of_the_name_whatever_the_address(
    core: Core, ended: Ends, tmp_path: Path, name: str, outcome: str
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with RawServer(good, tls=context) as server:
        port = int(server.url.rpartition(":")[2])
        named = ResolvingTransport(port, ca_file=str(tmp_path / "ca.pem"))
        ended("http://127.0.0.1:1/")
        sql(core, "UPDATE compute_callbacks SET url = :url", url=f"https://receiver.test:{port}/")
        allow(core, "receiver.test")

        seen = delivery(core, roads=Roads(public=named, named=named)).deliver(leased(core))

    assert seen == outcome
    assert len(server.requests) == (outcome == "delivered")
    if outcome == "failed":
        assert "no valid certificate" in (stored(core).error or "")


@pytest.fixture(autouse=True)
def _no_quiet_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that allows other hosts waits until the file has not changed for so long."""
    monkeypatch.setattr("gifty_compute.logic.watch.QUIET_SECONDS", 0.0)


def allow(core: Core, *hosts: str) -> None:
    """Edits the list of this core."""
    file = core.settings.logic_config_path
    before, _, _ = file.read_text(encoding="utf-8").partition("\ncallbacks:")
    file.write_text(f"{before}\ncallbacks: {{allow_hosts: {list(hosts)}}}\n", encoding="utf-8")
    core.logic_watch.look()
    core.logic_watch.look()
    assert core.logic_watch.trouble is None


def test_the_served_document_says_what_comes(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json

    told = document["webhooks"]["callback"]["post"]
    [schema] = [content["schema"] for content in told["requestBody"]["content"].values()]
    body = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = {one["$ref"].rpartition("/")[2] for one in body["properties"]["data"]["anyOf"]}
    assert {"Task", "LongTask", "Batch"} == {kind.partition("-")[0] for kind in kinds}
    assert kinds <= document["components"]["schemas"].keys()
    assert {one["name"] for one in told["parameters"]} == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


# -- over a day ----------------------------------------------------------------------------------------------


def test_after_a_day_it_is_given_up_and_kept_and_can_be_sent_again(core: Core, ended: Ends) -> None:
    with RawServer(answering("503 No")) as server:
        task = ended(server.url)
        a_day_passes(core)
        outcome = delivery(core).deliver(leased(core))
    dead = stored(core)
    assert outcome == "dead"
    assert dead.dead_at is not None
    assert (dead.due_at, dead.error) == (None, "answered 503")
    assert core.callbacks.outbox.lease(limit=10) == []

    with RawServer(good) as server:
        sql(core, "UPDATE compute_callbacks SET url = :url", url=server.url)
        core.callbacks.outbox.resend(dead.id)
        again = delivery(core).deliver(leased(core))

    assert again == "delivered"
    assert got(server)[0].id == dead.id == f"{task.id}.1.task.completed"
    row = stored(core)
    assert row.delivered_at is not None
    assert (row.dead_at, row.tries) == (None, 1)


def test_sent_again_it_has_a_day_before_it(core: Core, ended: Ends) -> None:
    with RawServer(answering("503 No")) as server:
        ended(server.url)
        a_day_passes(core)
        delivery(core).deliver(leased(core))
        core.callbacks.outbox.resend(stored(core).id)

        outcome = delivery(core).deliver(leased(core))

    assert outcome == "failed"
    assert stored(core).dead_at is None


def test_delays_grow_to_an_hour_and_are_jittered(core: Core, ended: Ends) -> None:
    delays = []
    with RawServer(answering("500 No")) as server:
        ended(server.url)
        for _ in range(14):
            leases_run_out(core)
            delivery(core).deliver(leased(core))
            with core.database.connection() as connection:
                statement = "SELECT extract(epoch FROM due_at - now()) FROM compute_callbacks"
                delays.append(float(connection.execute(text(statement)).scalar_one()))

    assert delays[0] <= 5
    assert all(delay <= min(3600, 5 * 2**n) for n, delay in enumerate(delays))
    assert max(delays) > 300
    assert len({round(delay, 3) for delay in delays}) == 14


# -- two at once, and those that die -------------------------------------------------------------------------


def test_who_lost_its_lease_does_not_decide_about_the_next_try(core: Core, ended: Ends) -> None:
    with RawServer(answering("500 No")) as server:
        ended(server.url)
        slow = leased(core)
        leases_run_out(core)
        next_one = leased(core)

        delivery(core).deliver(slow)

    row = stored(core)
    assert (row.due_at, row.error) == (next_one.due_at, None)


def test_a_late_success_counts_all_the_same(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        ended(server.url)
        slow = leased(core)
        leases_run_out(core)
        leased(core)

        assert delivery(core).deliver(slow) == "delivered"

    assert stored(core).delivered_at is not None


def test_sent_but_not_noted_means_sent_again_under_the_same_id(
    core: Core, ended: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(good) as server:
        ended(server.url)
        with monkeypatch.context() as broken:
            broken.setattr(Outbox, "delivered", lambda *_: _database_gone())
            with pytest.raises(StoreUnavailable):
                delivery(core).deliver(leased(core))
        leases_run_out(core)
        delivery(core).deliver(leased(core))

    first, second = got(server)
    assert first.id == second.id
    assert stored(core).tries == 2


def _database_gone() -> None:
    raise StoreUnavailable


# -- size ----------------------------------------------------------------------------------------------------


def test_over_a_mebibyte_the_result_is_left_out_and_its_address_given(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        task = ended(server.url, *[str(n) for n in range(600)])
        delivery(core).deliver(leased(core))

    [callback] = got(server)
    data = callback.json["data"]
    assert len(callback.body) < MAX_BODY_BYTES
    assert (data["result"], data["result_url"]) == (None, f"/v1/tasks/{task.id}")
    assert len(data["payload"]["texts"]) == 600
    assert isinstance(CallbackBody.model_validate_json(callback.body).data, LongTask)


def test_vectors_that_can_never_fit_are_not_even_read(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        task = ended(server.url, *[str(n) for n in range(1500)])
        found = core.callbacks.outbox.task(task.id, most_numbers=MAX_BODY_BYTES // 2)
        delivery(core).deliver(leased(core))

    assert found is not None
    assert found.has_more
    assert "embeddings" not in (found.task.result or {})
    assert got(server)[0].json["data"]["result"] is None


def test_a_payload_over_a_mebibyte_is_left_out_too(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        ended(server.url, *["x" * 30_000 for _ in range(30)])
        sql(
            core,
            "UPDATE compute_tasks"
            " SET payload = jsonb_build_object('texts', jsonb_build_array(repeat('x', 2000000)))",
        )
        delivery(core).deliver(leased(core))

    [callback] = got(server)
    assert len(callback.body) < MAX_BODY_BYTES
    assert callback.json["data"]["payload"] == {}
    assert callback.json["data"]["result_url"]


def test_float16_vectors_are_told_as_numbers(core: Core, submitted: Ends) -> None:
    with RawServer(good) as server:
        task = submitted(server.url)
        [claimed] = core.leases.claim(HOLDER, Want(ids=(task.id,))).tasks
        vectors = (np.arange(384, dtype=np.float16) + 1).reshape(1, 384)
        core.leases.complete(HOLDER, claimed, {"embeddings": vectors})
        delivery(core).deliver(leased(core))

    assert got(server)[0].json["data"]["result"]["embeddings"] == [vectors[0].astype(np.float32).tolist()]


# -- the guard -----------------------------------------------------------------------------------------------


def test_a_name_that_has_come_to_be_at_a_private_address_is_not_dialled(core: Core, ended: Ends) -> None:
    """What DNS rebinding does: the name was fine when it was judged."""
    with RawServer(good) as server:
        port = int(server.url.rpartition(":")[2])
        public = ResolvingTransport(port, admits=is_public)
        ended("http://127.0.0.1:1/")
        sql(core, "UPDATE compute_callbacks SET url = :url", url=f"http://receiver.test:{port}/")
        allow(core)

        outcome = delivery(core, roads=Roads(public=public, named=CurlTransport())).deliver(leased(core))

    assert outcome == "failed"
    assert server.connections == 0
    assert stored(core).error == f"receiver.test:{port} is at 127.0.0.1, which may not be called"


def test_of_a_name_with_a_private_address_among_others_none_is_dialled(core: Core, ended: Ends) -> None:
    dialled: list[str] = []

    def admits(address: str) -> bool:
        dialled.append(address)
        return address != "127.0.0.9"

    with RawServer(good) as server:
        port = int(server.url.rpartition(":")[2])
        public = ResolvingTransport(port, "127.0.0.9,127.0.0.1", admits=admits)
        ended("http://127.0.0.1:1/")
        sql(core, "UPDATE compute_callbacks SET url = :url", url=f"http://receiver.test:{port}/")
        allow(core)

        outcome = delivery(core, roads=Roads(public=public, named=CurlTransport())).deliver(leased(core))

    assert outcome == "failed"
    assert (server.connections, dialled) == (0, ["127.0.0.9"])


def test_a_host_that_was_taken_off_the_list_is_called_no_more(core: Core, ended: Ends) -> None:
    with RawServer(good) as server:
        ended(server.url)
        allow(core, "shop.example")

        outcome = delivery(core).deliver(leased(core))

    assert outcome == "failed"
    assert server.connections == 0
    assert stored(core).error == "callback_url: 127.0.0.1 is not in callbacks.allow_hosts"
