"""Clients are borders: a client's token reaches that client's own tasks and batches, at every path of /v1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from api import create_app
from api.operation import operations
from gifty_compute.core import Core
from gifty_compute.errors import InvalidConfig
from tests.conftest import LOCAL_LOGIC
from tests.integration.api.test_hostile_everywhere import LEAST, stored
from tests.integration.conftest import API, WORKER

ALICE = API
"""The token of the client `backend`, the first of API_TOKENS."""
BOB = {"Authorization": "Bearer jobs-token"}
"""The token of the client `jobs`."""
SECRET = "чайник алисы"
LINE = {"task_type": "embedding", "payload": {"texts": [SECRET]}, "metadata": {"of": "alice"}}
NDJSON = "application/x-ndjson"
NOT_OWNED: frozenset[str] = frozenset()
"""Path arguments that name nothing of a client's."""


class World:
    """What alice has, and how each path is called with it."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        task = client.post("/v1/tasks", json=LINE, headers={**ALICE, "Idempotency-Key": "order-1"})
        lines = b'{"task_type": "embedding", "payload": {"texts": ["' + SECRET.encode() + b'"]}}\n'
        batch = client.post(
            "/v1/batches",
            data=lines,
            headers={**ALICE, "Idempotency-Key": "order-2"},
            content_type=NDJSON,
        )
        assert (task.status_code, batch.status_code) == (202, 202)
        self.owned = {"task_id": task.json["id"], "batch_id": batch.json["id"]}

    def call(self, rule: Rule, method: str, headers: dict[str, str], ids: dict[str, str]) -> TestResponse:
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", ids[argument])
        found = operations[self.client.application.view_functions[rule.endpoint]]
        body = {} if found.body is None else {"json": LEAST}
        return self.client.open(path, method=method, headers=headers, **body)

    def paths(self, *, with_ids: bool) -> Iterator[tuple[Rule, str]]:
        """Every operation of /v1 that names something of a client's in its path, or every other."""
        for rule in self.client.application.url_map.iter_rules():
            if not rule.rule.startswith("/v1/"):
                continue
            named = rule.arguments - NOT_OWNED
            assert named <= set(self.owned), f"{rule.rule}: alice needs one of {named - set(self.owned)}"
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
                if bool(named) is with_ids:
                    yield rule, method


@pytest.fixture
def world(client: FlaskClient) -> World:
    return World(client)


def words(answer: TestResponse, id_: str) -> str:
    """The answer without what differs by request: its id, and the id that was asked for."""
    said = answer.get_data(as_text=True)
    return said.replace(id_, "ID").replace(answer.headers["X-Request-Id"], "REQUEST")


def test_what_another_client_owns_is_answered_as_what_is_not_there_at_every_path(
    world: World, core: Core
) -> None:
    """Attack 4."""
    before, nothing = stored(core), dict.fromkeys(world.owned, str(uuid4()))
    paths = list(world.paths(with_ids=True))
    assert len(paths) >= 7

    for rule, method in paths:
        foreign = world.call(rule, method, BOB, world.owned)
        absent = world.call(rule, method, BOB, nothing)
        [argument] = rule.arguments

        assert foreign.status_code == absent.status_code == 404, (method, rule.rule, foreign.status_code)
        assert words(foreign, world.owned[argument]) == words(absent, nothing[argument]), rule.rule
    assert stored(core) == before
    for rule, method in paths:
        assert world.call(rule, method, ALICE, world.owned).status_code != 404, (method, rule.rule)


def test_no_list_shows_what_another_client_owns(world: World) -> None:
    """Attack 4."""
    queries = ("", f"batch_id={world.owned['batch_id']}", "status=pending", "task_type=embedding")
    seen_by_alice = 0

    for rule, method in world.paths(with_ids=False):
        for query in queries if method == "GET" else ():
            path = f"{rule.rule}?{query}"
            seen_by_bob = world.client.get(path, headers=BOB).get_data(as_text=True)
            seen_by_alice += SECRET in world.client.get(path, headers=ALICE).get_data(as_text=True)
            assert SECRET not in seen_by_bob, path
            assert not any(id_ in seen_by_bob for id_ in world.owned.values() if id_ not in query), path
    assert seen_by_alice >= len(queries)


def test_an_idempotency_key_of_another_client_says_nothing(world: World) -> None:
    for key in ("order-1", "order-2"):
        headers = {**BOB, "Idempotency-Key": key}

        task = world.client.post("/v1/tasks", json=LEAST_TASK, headers=headers)
        batch = world.client.post(
            "/v1/batches", data=b"%s\n" % LINE_OF_BOB, headers=headers, content_type=NDJSON
        )

        assert (task.status_code, batch.status_code) == (202, 202)
        assert not {task.json["id"], batch.json["id"]} & set(world.owned.values())


LEAST_TASK = {"task_type": "embedding", "payload": {"texts": ["b"]}}
LINE_OF_BOB = b'{"task_type": "embedding", "payload": {"texts": ["b"]}}'


@pytest.fixture
def world_with(core_with: Callable[..., Core]) -> Callable[[str], World]:
    """The same by a logic with this section of clients."""

    def make(clients: str) -> World:
        logic = LOCAL_LOGIC.read_text(encoding="utf-8")
        return World(create_app(core_with(f"{logic}\nclients: {clients}\n")).test_client())

    return make


def test_a_client_that_sees_another_reads_lists_and_changes_what_that_one_owns(
    world_with: Callable[[str], World],
) -> None:
    world = world_with("{jobs: {sees: [backend]}}")
    task = f"/v1/tasks/{world.owned['task_id']}"

    listed = world.client.get("/v1/tasks", headers=BOB).json["tasks"]
    cancelled = world.client.post(f"{task}/cancel", headers=BOB)
    retried = world.client.post(f"{task}/retry", headers=BOB)
    batch = world.client.get(f"/v1/batches/{world.owned['batch_id']}/results", headers=BOB)

    assert {one["id"] for one in listed} >= {world.owned["task_id"]}
    assert (cancelled.status_code, retried.status_code, batch.status_code) == (200, 200, 200)
    assert len(batch.data.splitlines()) == 1


def test_sight_is_neither_mutual_nor_handed_on(world_with: Callable[[str], World]) -> None:
    world = world_with("{backend: {sees: [jobs]}, third: {sees: [backend]}}")
    of_bob = world.client.post("/v1/tasks", json=LEAST_TASK, headers=BOB).json["id"]

    assert world.client.get(f"/v1/tasks/{of_bob}", headers=ALICE).status_code == 200
    assert world.client.get(f"/v1/tasks/{world.owned['task_id']}", headers=BOB).status_code == 404


def test_pages_over_several_clients_are_one_list_newest_first(world_with: Callable[[str], World]) -> None:
    world = world_with("{jobs: {sees: [backend]}}")
    for number in range(7):
        world.client.post("/v1/tasks", json=LEAST_TASK, headers=(ALICE, BOB)[number % 2])

    walked, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = world.client.get("/v1/tasks", query_string=query, headers=BOB).json
        walked += page["tasks"]
        if (cursor := page["next_cursor"]) is None:
            break

    whole = world.client.get("/v1/tasks?limit=100", headers=BOB).json["tasks"]
    assert [task["id"] for task in walked] == [task["id"] for task in whole]
    assert len(whole) == 9
    assert [task["created_at"] for task in whole] == sorted((t["created_at"] for t in whole), reverse=True)


def inserted(core: Core, *, model: str | None = None, status: str = "pending") -> str:
    """A row as Gifty's backend inserts it by SQL."""
    sql = (
        "INSERT INTO compute_tasks (task_type, payload, model, status)"
        " VALUES ('embedding', '{\"texts\": [\"чай\"]}', :model, :status) RETURNING id"
    )
    with core.database.connection() as connection:
        return str(connection.execute(text(sql), {"model": model, "status": status}).scalar_one())


def test_rows_that_came_by_sql_belong_to_the_first_client(client: FlaskClient, core: Core) -> None:
    new, placed, ended = inserted(core), inserted(core, model="m"), inserted(core, status="completed")

    before = [client.get(f"/v1/tasks/{id_}", headers=ALICE).status_code for id_ in (new, placed, ended)]
    core.maintainer.run_pass()
    after = [client.get(f"/v1/tasks/{id_}", headers=ALICE).status_code for id_ in (new, placed, ended)]
    to_bob = [client.get(f"/v1/tasks/{id_}", headers=BOB).status_code for id_ in (new, placed, ended)]

    assert before == after == [200] * 3
    assert to_bob == [404] * 3
    assert client.get("/v1/tasks", headers=BOB).json["tasks"] == []
    assert len(client.get("/v1/tasks", headers=ALICE).json["tasks"]) == 3


def test_rows_that_came_by_sql_belong_to_the_client_that_the_settings_name(
    core_with: Callable[..., Core],
) -> None:
    logic = LOCAL_LOGIC.read_text(encoding="utf-8")
    core = core_with(f"{logic}\nclients: {{sql_rows: jobs}}\n")
    client, refused = create_app(core).test_client(), "{}"
    good, bad = inserted(core), inserted(core)
    with core.database.connection() as connection:
        connection.execute(
            text("UPDATE compute_tasks SET payload = :p WHERE id = :id"), {"p": refused, "id": bad}
        )

    core.maintainer.run_pass()

    assert [client.get(f"/v1/tasks/{id_}", headers=BOB).json["status"] for id_ in (good, bad)] == [
        "pending",
        "failed",
    ]
    assert client.get(f"/v1/tasks/{good}", headers=ALICE).status_code == 404
    with core.database.connection() as connection:
        lanes = connection.execute(text("SELECT DISTINCT lane FROM compute_tasks")).scalars().all()
    assert lanes == ["jobs"]


def test_a_worker_goes_on_with_the_tasks_of_all_clients(world: World, core: Core) -> None:
    of_bob = world.client.post("/v1/tasks", json=LEAST_TASK, headers=BOB).json["id"]

    claimed = world.client.get("/internal/workers/tasks?worker_id=w&limit=10", headers=WORKER).json["tasks"]

    assert {world.owned["task_id"], of_bob} <= {task["id"] for task in claimed}
    assert len(claimed) == 3
    assert all(core.store.stored(UUID(task["id"])).status == "processing" for task in claimed)


def test_no_caller_sees_a_referee(client: FlaskClient, core: Core, submit: Any) -> None:
    task_id = submit("чайник")["id"]
    with core.database.connection() as connection:
        sql = "UPDATE compute_tasks SET referee = true WHERE id = :id"
        connection.execute(text(sql), {"id": task_id})

    assert client.get(f"/v1/tasks/{task_id}", headers=ALICE).status_code == 404
    assert client.post(f"/v1/tasks/{task_id}/cancel", headers=ALICE).status_code == 404


EMBED = {"input": "чай"}
RERANK = {"query": "чай", "documents": ["чай"]}


@pytest.mark.parametrize(
    ("rights", "path", "body", "param"),
    [
        ("kinds: [rerank]", "/v1/embeddings", EMBED, "task_type"),
        ("kinds: [rerank]", "/v1/embeddings", {**EMBED, "priority": "low"}, "task_type"),
        ("kinds: [rerank]", "/v1/tasks", LEAST_TASK, "task_type"),
        ("models: [bge-m3]", "/v1/rerank", RERANK, "model"),
        ("models: [bge-m3]", "/v1/rerank", {**RERANK, "priority": "low"}, "model"),
        ("models: [bge-reranker-v2-m3]", "/v1/tasks", LEAST_TASK, "model"),
    ],
)
def test_what_a_client_may_not_ask_for_is_403(
    world_with: Callable[[str], World], rights: str, path: str, body: dict[str, Any], param: str
) -> None:
    client = world_with(f"{{jobs: {{{rights}}}}}").client

    refused = client.post(path, json=body, headers=BOB)
    others = client.post(path, json=body, headers=ALICE)

    assert (refused.status_code, refused.json["error"]["code"]) == (403, "not_allowed")
    assert (refused.json["error"]["type"], refused.json["error"]["param"]) == ("permission_error", param)
    assert others.status_code != 403
    assert client.get("/v1/tasks", headers=BOB).json["tasks"] == []


def test_a_line_that_a_client_may_not_ask_for_is_named(world_with: Callable[[str], World]) -> None:
    client = world_with("{jobs: {kinds: [embedding]}}").client
    lines = b"%s\n%s\n" % (
        LINE_OF_BOB,
        b'{"task_type": "rerank", "payload": {"query": "a", "documents": ["a"]}}',
    )

    refused = client.post("/v1/batches", data=lines, headers=BOB, content_type=NDJSON)
    good = client.post("/v1/batches", data=LINE_OF_BOB, headers=BOB, content_type=NDJSON)

    assert (refused.status_code, good.status_code) == (403, 202)
    assert refused.json["error"]["message"].startswith("line 2: ")


def test_the_work_of_a_client_goes_to_its_providers_alone(core_with: Callable[..., Core]) -> None:
    logic = LOCAL_LOGIC.read_text(encoding="utf-8")
    core = core_with(f"{logic}\nclients: {{jobs: {{providers: [runpod]}}}}\n")
    client = create_app(core).test_client()

    own, refused = (client.post("/v1/embeddings", json=EMBED, headers=headers) for headers in (ALICE, BOB))

    assert own.status_code == 200
    assert refused.status_code in (422, 502, 503)
    assert core.logic.barred("jobs") == set(core.logic.file.providers) - {"runpod"}


@pytest.mark.parametrize("rights", ["kinds: [embeding]", "models: [nope]", "providers: [nope]", "see: [a]"])
def test_a_right_that_names_nothing_is_refused_with_the_file(
    core_with: Callable[..., Core], rights: str
) -> None:
    with pytest.raises(InvalidConfig, match=r"clients\.jobs"):
        core_with(f"clients: {{jobs: {{{rights}}}}}\n")
