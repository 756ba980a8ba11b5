"""Friction 1: low-priority work that no worker takes is told by /readyz, /metrics and the task itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from api import create_app
from gifty_compute.core import Core
from gifty_compute.maintain.sampling import Sampling
from gifty_compute.wire import vectors
from gifty_compute.wire.token import MintRequest
from tests.integration.conftest import API, OPS, WORKER

E5 = "multilingual-e5-small"
BGE = {"payload": {"texts": ["чайник"], "model": "bge-m3"}}


@pytest.fixture
def sql(core: Core) -> Callable[..., None]:
    def run(statement: str, **parameters: Any) -> None:
        with core.database.connection() as connection:
            connection.execute(text(statement), parameters)

    return run


@pytest.fixture
def look(core: Core, sql: Callable[..., None]) -> Callable[[], None]:
    """Six seconds pass; what the facade has heard of workers is stored, and the queue is sampled."""

    def look(core: Core = core) -> None:
        core.presence.flush()
        passed = {
            "sampled_at": ("compute_maintenance", "compute_samples"),
            "completed_at": ("compute_tasks",),
        }
        for column, tables in passed.items():
            for table in tables:
                sql(f"UPDATE {table} SET {column} = {column} - interval '6 seconds'")
        core.maintainer.run_pass()
        with core.database.connection() as connection:
            Sampling(core.database, core.clock).run(connection)
        core.samples.refresh()

    return look


def task(client: FlaskClient, task_id: str) -> Any:
    return client.get(f"/v1/tasks/{task_id}", headers=API).json


def ready(client: FlaskClient) -> Any:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    return answer.json


def gauges(client: FlaskClient) -> dict[str, float]:
    """The values of the queue's metrics, by what stands in front of them."""
    lines = client.get("/metrics", headers=OPS).text.splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if "gifty_queue" in line[:11]
    }


def claim(client: FlaskClient, **query: Any) -> Any:
    answer = client.get(
        "/internal/workers/tasks", query_string={"worker_id": "home-1", **query}, headers=WORKER
    )
    assert answer.status_code == 200, answer.json
    return answer.json["tasks"]


WAITED = "UPDATE compute_tasks SET created_at = now() - interval '16 seconds'"


def test_work_that_no_worker_serves_degrades_the_service_and_is_told_by_the_task(
    client: FlaskClient, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    ids = [submit(**BGE)["id"] for _ in range(3)]
    sql(WAITED)

    look()

    assert ready(client) == {
        "status": "degraded",
        "parts": ["workers"],
        "reasons": ["no worker for embedding/bge-m3 (3 wait)"],
    }
    assert task(client, ids[0])["waiting_for"] == "no worker for embedding/bge-m3"
    [listed] = client.get("/v1/tasks?limit=1", headers=API).json["tasks"]
    assert listed["waiting_for"] == "no worker for embedding/bge-m3"
    label = '{model="bge-m3",task_type="embedding"}'
    assert gauges(client)[f"gifty_queue_ready{label}"] == 3
    assert gauges(client)[f"gifty_queue_workers{label}"] == 0
    assert gauges(client)[f"gifty_queue_oldest_seconds{label}"] >= 16


def test_a_worker_that_asks_for_the_model_by_an_alias_serves_it(
    client: FlaskClient, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    ids = [submit(**BGE)["id"] for _ in range(3)]
    sql(WAITED)

    claim(client, model="BAAI/bge-m3", limit=1, session="s")
    look()

    assert ready(client) == {"status": "ok"}
    assert [task(client, one)["waiting_for"] for one in ids] == [None] * 3
    read = gauges(client)
    label = '{model="bge-m3",task_type="embedding"}'
    assert (read[f"gifty_queue_workers{label}"], read[f"gifty_queue_processing{label}"]) == (1, 1)


def test_work_that_has_just_come_is_no_alarm_but_the_task_tells(
    client: FlaskClient, submit: Any, look: Callable[[], None]
) -> None:
    look()

    told = submit(**BGE)
    look()

    assert told["waiting_for"] == "no worker for embedding/bge-m3"
    assert ready(client) == {"status": "ok"}


@pytest.mark.parametrize(
    ("asked", "serves"),
    [
        pytest.param({"model": E5}, True, id="its model"),
        pytest.param({}, True, id="the configured models, as bare workers do"),
        pytest.param({"space": "multilingual-e5-small-q4"}, True, id="its space"),
        pytest.param({"model": "bge-m3"}, False, id="another model"),
        pytest.param({"task_type": "rerank"}, False, id="another type"),
        pytest.param({"space": "bge-m3"}, False, id="another space"),
        pytest.param(
            {"model": E5, "id": "00000000-0000-0000-0000-000000000001"}, False, id="named tasks alone"
        ),
    ],
)
def test_a_worker_serves_what_its_claim_may_be_handed(
    client: FlaskClient, submit: Any, look: Callable[[], None], asked: dict[str, str], serves: bool
) -> None:
    claim(client, **asked)
    waiting = submit()

    look()

    expected = None if serves else f"no worker for embedding/{E5}"
    assert task(client, waiting["id"])["waiting_for"] == expected


def test_a_token_for_another_type_and_workers_that_are_switched_off_serve_nothing(
    client: FlaskClient, core: Core, core_with: Callable[..., Core], submit: Any, look: Callable[[], None]
) -> None:
    minted = core.tokens.mint(MintRequest(name="reranker", task_types=["rerank"]), created_by="anna")
    off = core_with("features: {enable_external_workers: false}")
    switched_off = create_app(off).test_client()
    headers = {"X-Internal-Token": minted.token}
    for path in (f"/internal/workers/tasks?worker_id=w&model={E5}", "/internal/workers/tasks?worker_id=w"):
        assert client.get(path, headers=headers).status_code == 200
        assert switched_off.get(path, headers=WORKER).status_code == 200
    off.presence.flush()
    waiting = submit()

    look()

    assert task(client, waiting["id"])["waiting_for"] == f"no worker for embedding/{E5}"


def test_a_worker_in_quarantine_serves_nothing(
    client: FlaskClient, core: Core, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    request = MintRequest(name="stranger", task_types=["embedding"], trust="untrusted")
    headers = {"X-Internal-Token": core.tokens.mint(request, created_by="anna").token}
    sql("UPDATE compute_worker_tokens SET quarantined_at = now()")
    info = {"serves": {"embedding": [E5]}}
    client.get(f"/internal/workers/tasks?worker_id=w&model={E5}", headers=headers)
    beat(client, headers=headers, info=info)
    waiting = submit()

    look()

    assert task(client, waiting["id"])["waiting_for"] == f"no worker for embedding/{E5}"


def beat(client: FlaskClient, headers: Any = WORKER, **body: Any) -> None:
    said = {"worker_id": "home-1", "session": "s", "tasks": [], **body}
    answer = client.post("/internal/workers/heartbeat", json=said, headers=headers)
    assert answer.status_code == 200, answer.json


def test_a_silent_worker_is_gone_and_its_heartbeat_brings_it_back(
    client: FlaskClient, core: Core, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    claim(client, model="bge-m3", session="s")
    waiting = submit(**BGE)
    core.presence.flush()
    sql("UPDATE compute_workers SET seen_at = seen_at - interval '91 seconds'")
    look()
    alone = task(client, waiting["id"])["waiting_for"]

    beat(client, session="another")
    look()
    of_another_session = task(client, waiting["id"])["waiting_for"]
    beat(client)
    look()

    assert (alone, of_another_session) == ("no worker for embedding/bge-m3",) * 2
    assert task(client, waiting["id"])["waiting_for"] is None


def test_a_heartbeat_that_names_types_and_models_says_that_they_are_served(
    client: FlaskClient, submit: Any, look: Callable[[], None]
) -> None:
    waiting = submit(**BGE)

    for nonsense in (["embedding"], {"embedding": "bge-m3"}, {"embedding": [{}]}, {"rerank": ["bge-m3"]}):
        beat(client, info={"serves": nonsense})
    look()
    before = task(client, waiting["id"])["waiting_for"]
    beat(client, info={"serves": {"embedding": ["BAAI/bge-m3", "nonsense"], "nonsense": ["bge-m3"]}})
    look()

    assert before == "no worker for embedding/bge-m3"
    assert task(client, waiting["id"])["waiting_for"] is None


def test_a_bare_worker_is_there_for_as_long_as_its_lease_is_good(
    client: FlaskClient, submit: Any, look: Callable[[], None], sql: Callable[..., None], core: Core
) -> None:
    waiting = [submit()["id"], submit()["id"]][1]
    claim(client, limit=1)
    core.presence.flush()
    sql("UPDATE compute_workers SET seen_at = now() - interval '10 minutes'")

    look()
    held = task(client, waiting)["waiting_for"]
    sql("UPDATE compute_tasks SET credential = 'paid' WHERE status = 'processing'")
    look()

    assert held is None
    assert task(client, waiting)["waiting_for"] == f"no worker for embedding/{E5}"


def test_older_notebooks_and_declared_types_count_too(
    core_with: Callable[..., Core], look: Callable[..., None]
) -> None:
    core = core_with("task_types: {ocr: {}}")
    client = create_app(core).test_client()
    bodies = {
        "score": {"task_type": "score", "payload": {"products": [{"title": "чайник"}]}},
        "ocr": {"task_type": "ocr", "payload": {"url": "x"}},
    }
    ids = {name: client.post("/v1/tasks", json=body, headers=API).json["id"] for name, body in bodies.items()}
    look(core)
    before = {name: task(client, one)["waiting_for"] for name, one in ids.items()}

    client.get("/internal/scoring/tasks?limit=1&score_scale=0-10", headers=WORKER)
    claim(client, task_type="ocr", limit=1, model="anything")
    again = {
        name: client.post("/v1/tasks", json=body, headers=API).json["id"] for name, body in bodies.items()
    }
    look(core)

    assert before == {"score": "no worker for score/gift-scorer", "ocr": "no worker for ocr/ocr"}
    assert {task(client, one)["waiting_for"] for one in again.values()} == {None}


def test_a_task_in_a_backoff_says_until_when(
    client: FlaskClient, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    waiting = submit(**BGE)["id"]
    sql("UPDATE compute_tasks SET available_at = '2099-01-02 03:04:05+00'")

    look()

    assert task(client, waiting)["waiting_for"] == "backoff until 2099-01-02T03:04:05Z"
    assert gauges(client)['gifty_queue_delayed{model="bge-m3",task_type="embedding"}'] == 1
    assert ready(client) == {"status": "ok"}


def test_a_row_inserted_by_sql_waits_to_be_placed_and_for_long_only_by_a_fault(
    client: FlaskClient, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    # Deeper than any reader goes: `maintain` cannot read it and places none behind it.
    deep = "[" * 2000 + "]" * 2000
    insert = (
        "INSERT INTO compute_tasks (id, task_type, payload, created_at)"
        " VALUES (:id, 'embedding', CAST(:payload AS jsonb), now() - interval '301 seconds')"
    )
    behind = str(UUID(int=2))
    sql(insert, id=str(UUID(int=1)), payload=f'{{"texts": {deep}}}')
    sql(insert, id=behind, payload='{"texts": ["чай"]}')

    look()

    assert task(client, behind)["waiting_for"] == "placing"
    assert ready(client)["parts"] == ["maintain"]
    assert re.fullmatch(r"2 rows of embedding have no model for 30\d s", ready(client)["reasons"][0])


def test_a_task_that_has_ended_or_is_held_waits_for_nothing(
    client: FlaskClient, submit: Any, look: Callable[[], None]
) -> None:
    held, ended = submit(**BGE)["id"], submit(**BGE)["id"]
    claim(client, model="bge-m3", limit=1)
    client.post(f"/v1/tasks/{ended}/cancel", headers=API)

    look()

    assert [task(client, one)["waiting_for"] for one in (held, ended)] == [None, None]


def test_what_workers_are_handed_does_not_say_what_it_waited_for(client: FlaskClient, submit: Any) -> None:
    submit()

    [handed] = claim(client)

    assert "waiting_for" not in handed


def test_where_nothing_samples_the_queue_that_is_told_and_no_old_number_is_shown(
    client: FlaskClient, core: Core, submit: Any, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    submit(**BGE)
    look()
    fresh = gauges(client)
    sql("UPDATE compute_maintenance SET sampled_at = sampled_at - interval '31 seconds'")
    core.samples.refresh()
    just_started = ready(client)
    core.samples._began -= 31

    answer, later = ready(client), submit()

    assert just_started == {"status": "ok"}
    assert (answer["status"], answer["parts"]) == ("degraded", ["maintain"])
    assert re.fullmatch(r"the queue was not sampled for 3\d s: maintain .*", answer["reasons"][0])
    assert later["waiting_for"] == "unknown: the queue is not sampled"
    assert len(fresh) > 3
    assert list(gauges(client)) == ["gifty_queue_sampled_seconds"]


def test_a_queue_that_was_worked_off_shows_zeros_and_its_sums_only_grow(
    client: FlaskClient, submit: Any, look: Callable[[], None]
) -> None:
    look()
    for _ in range(2):
        submit(max_attempts=1)
    done, failed = claim(client, limit=2)
    vector = {"embeddings": vectors.encode(np.arange(1, 385, dtype=np.float32)[None])}
    outcomes = [
        {"id": done["id"], "attempt": 1, "status": "completed", "result": vector},
        {"id": failed["id"], "attempt": 1, "status": "failed", "error": "no"},
    ]
    client.post("/internal/workers/results", json={"worker_id": "w", "results": outcomes}, headers=WORKER)

    read = []
    for _ in range(2):
        look()
        read.append(gauges(client))

    label = f'{{model="{E5}",task_type="embedding"}}'
    assert [one[f"gifty_queue_done_total{label}"] for one in read] == [1, 1]
    assert [one[f"gifty_queue_failed_total{label}"] for one in read] == [1, 1]
    assert [one[f"gifty_queue_ready{label}"] for one in read] == [0, 0]
    assert [one[f"gifty_queue_oldest_seconds{label}"] for one in read] == [0, 0]


def test_names_of_a_client_cannot_flood_what_operators_see(
    client: FlaskClient, look: Callable[[], None], sql: Callable[..., None]
) -> None:
    sql(
        "INSERT INTO compute_tasks (task_type, payload, model, created_at)"
        " SELECT 'llm', '{}', 'groq/m' || n, now() - interval '1 minute' FROM generate_series(1, 300) AS n"
    )

    look()

    assert len(ready(client)["reasons"]) == 11
    assert len(gauges(client)) < 1500
