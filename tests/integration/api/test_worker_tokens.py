"""A worker with a token of its own: what it may do, and that it may do no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from api import create_app
from gifty_compute.core import Core
from gifty_compute.wire import vectors
from gifty_compute.wire.token import Minted, MintRequest
from tests.conftest import LOCAL_LOGIC
from tests.integration.conftest import API, OPS, WORKER

VIEWER = {"Authorization": "Bearer viewer-token"}
RESULT = {"embeddings": vectors.encode(np.arange(1, 385, dtype=np.float32).reshape(1, 384))}
Mint = Callable[..., Minted]


@pytest.fixture
def mint(core: Core) -> Mint:
    def mint(name: str = "kaggle-1", **fields: Any) -> Minted:
        return core.tokens.mint(MintRequest.model_validate({"name": name, **fields}), created_by="anna")

    return mint


def bearer(token: Minted) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.token}"}


def claim(client: FlaskClient, token: Minted, status: int = 200, **query: Any) -> Any:
    asked = {"worker_id": "w", "lease": 60, **query}
    answer = client.get("/internal/workers/tasks", query_string=asked, headers=bearer(token))
    assert answer.status_code == status, answer.json
    return answer.json


def send(client: FlaskClient, token: Minted, task: Any, **body: Any) -> Any:
    said = {"status": "completed", "result": RESULT, "attempt": task["attempt"], **body}
    said = {name: value for name, value in said.items() if value is not None}
    path = f"/internal/workers/tasks/{task['id']}/result"
    answer = client.post(path, json=said, headers=bearer(token))
    return answer.status_code, (answer.json.get("error") or {}).get("code")


def execute(core: Core, sql: str) -> None:
    with core.database.connection() as connection:
        connection.execute(text(sql))


# -- operators -----------------------------------------------------------------------------------------------


def test_an_operator_mints_a_token_that_a_worker_works_with(client: FlaskClient, submit: Any) -> None:
    submit()
    body = {"name": "kaggle-1", "task_types": ["embedding"], "expires_in_days": 7}

    made = client.post("/ops/tokens", json=body, headers=OPS)

    token = Minted.model_validate(made.json)
    assert made.headers["Cache-Control"] == "no-store"
    assert (token.name, token.task_types, token.trust, token.created_by) == (
        "kaggle-1",
        ("embedding",),
        "trusted",
        "anna",
    )
    (task,) = claim(client, token)["tasks"]
    assert send(client, token, task) == (200, None)


def test_a_name_in_use_is_409(client: FlaskClient) -> None:
    client.post("/ops/tokens", json={"name": "kaggle-1"}, headers=OPS)

    again = client.post("/ops/tokens", json={"name": "kaggle-1"}, headers=OPS)

    assert (again.status_code, again.json["error"]["code"]) == (409, "conflict")


def test_a_viewer_sees_tokens_without_their_secrets_and_changes_nothing(
    client: FlaskClient, mint: Mint
) -> None:
    token = mint()

    seen = client.get("/ops/tokens", headers=VIEWER)
    minted = client.post("/ops/tokens", json={"name": "mine"}, headers=VIEWER)
    revoked = client.post(f"/ops/tokens/{token.id}/revoke", headers=VIEWER)

    assert [one["name"] for one in seen.json["tokens"]] == ["kaggle-1"]
    assert token.token not in seen.text
    assert "hash" not in seen.text
    assert (minted.status_code, revoked.status_code) == (401, 401)
    assert claim(client, token)["count"] == 0


@pytest.mark.parametrize("headers", [{}, API, WORKER, {"Authorization": "Bearer gwt_x"}])
def test_tokens_are_operators_business(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/ops/tokens", headers=headers).status_code == 401
    assert client.post("/ops/tokens", json={"name": "a"}, headers=headers).status_code == 401


# -- workers -------------------------------------------------------------------------------------------------


def test_a_revoked_token_is_refused_at_the_next_request(client: FlaskClient, mint: Mint, submit: Any) -> None:
    submit()
    token = mint()
    (task,) = claim(client, token)["tasks"]

    client.post(f"/ops/tokens/{token.id}/revoke", headers=OPS)

    assert claim(client, token, 401)["error"]["code"] == "unauthorized"
    assert send(client, token, task) == (401, "unauthorized")
    assert client.get(f"/v1/tasks/{task['id']}", headers=API).json["status"] == "processing"


def test_an_expired_token_is_refused(client: FlaskClient, core: Core, mint: Mint) -> None:
    token = mint(expires_in_days=1)
    claim(client, token)

    execute(core, "UPDATE compute_worker_tokens SET expires_at = now()")

    claim(client, token, 401)


def test_a_workers_token_opens_no_other_path(client: FlaskClient, mint: Mint) -> None:
    token = mint()

    paths = ["/v1/tasks", "/metrics", "/ops/tokens"]

    assert {client.get(path, headers=bearer(token)).status_code for path in paths} == {401}


def test_a_token_may_come_in_either_header(client: FlaskClient, mint: Mint) -> None:
    headers = {"Authorization": "Bearer a-proxys-own", "X-Internal-Token": mint().token}

    assert client.get("/internal/workers/tasks?worker_id=w", headers=headers).status_code == 200


def test_a_token_claims_what_is_in_its_scope_of_what_it_names(
    client: FlaskClient, mint: Mint, submit: Any
) -> None:
    task = submit()
    reranker, embedder = mint("a", task_types=["rerank"]), mint("b", task_types=["embedding", "score"])

    nothing = claim(client, reranker)
    by_id = claim(client, reranker, id=task["id"])
    refused = claim(client, reranker, 401, task_type="embedding")
    taken = claim(client, embedder, task_type=["embedding", "rerank"])

    assert nothing["count"] == by_id["count"] == 0
    assert refused["error"]["message"] == "The credential is missing, wrong or out of scope."
    assert [one["id"] for one in taken["tasks"]] == [task["id"]]


def test_with_a_token_of_its_own_a_worker_names_the_attempt(
    client: FlaskClient, mint: Mint, submit: Any
) -> None:
    submit()
    token = mint()
    (task,) = claim(client, token)["tasks"]
    outcome = {"id": task["id"], "status": "completed", "result": RESULT}

    many = client.post(
        "/internal/workers/results", json={"worker_id": "w", "results": [outcome]}, headers=bearer(token)
    )

    assert send(client, token, task, attempt=None) == (422, "invalid_value")
    assert send(client, token, task, attempt=None, status="failed", result=None) == (422, "invalid_value")
    assert many.json["verdicts"][0]["http_status"] == 422
    assert send(client, token, task) == (200, None)


def test_a_token_is_believed_about_attempts_that_it_was_handed_alone(
    client: FlaskClient, core: Core, mint: Mint, submit: Any
) -> None:
    submit()
    late, present, stranger = mint("late"), mint("present"), mint("stranger")
    (first,) = claim(client, late)["tasks"]
    execute(core, "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s'")
    core.database.rows("sweep", limit=10, silence_seconds=30)
    (second,) = claim(client, present)["tasks"]

    assert (first["attempt"], second["attempt"]) == (1, 2)
    for attempt in (1, 2, 3):
        assert send(client, stranger, first, attempt=attempt) == (409, "lease_lost")
        failed = {"status": "failed", "result": None, "attempt": attempt}
        assert send(client, stranger, first, **failed) == (409, "lease_lost")
    assert send(client, late, second) == (409, "lease_lost")
    assert send(client, present, first) == (409, "lease_lost")
    assert send(client, late, first) == (200, None)


def test_one_tokens_worker_cannot_touch_anothers_leases_by_its_name(
    client: FlaskClient, mint: Mint, submit: Any
) -> None:
    submit()
    owner, thief = mint("owner"), mint("thief")
    (task,) = claim(client, owner, worker_id="kaggle-1")["tasks"]
    body = {"worker_id": "kaggle-1", "tasks": [{"id": task["id"], "attempt": 1}]}

    beat = client.post("/internal/workers/heartbeat", json=body, headers=bearer(thief)).json
    exhaustive = {"worker_id": "kaggle-1", "tasks": [], "exhaustive": True}
    for _ in range(3):
        client.post("/internal/workers/heartbeat", json=exhaustive, headers=bearer(thief))
    given = client.post(
        "/internal/workers/release", json={**body, "reason": "drain"}, headers=bearer(thief)
    ).json

    assert (beat["lost"], given["released"]) == ([task["id"]], [])
    assert send(client, owner, task) == (200, None)


def test_all_that_work_by_one_token_share_the_cap_of_leases(
    core_with: Callable[..., Core], submit: Any
) -> None:
    core = core_with(LOCAL_LOGIC.read_text() + "leases: {most_held: 3}\n")
    client, token = create_app(core).test_client(), core.tokens.mint(MintRequest(name="a"), created_by="anna")
    for n in range(8):
        submit(str(n))

    own = [claim(client, token, worker_id=f"w-{n}", limit=2)["count"] for n in range(3)]
    shared = [
        client.get(f"/internal/workers/tasks?worker_id=w-{n}&limit=2", headers=WORKER).json["count"]
        for n in range(2)
    ]

    assert own == [2, 1, 0]
    assert shared == [2, 2]


def test_a_quarantined_token_is_handed_nothing_and_asked_to_drain(
    client: FlaskClient, core: Core, mint: Mint, submit: Any
) -> None:
    submit()
    token = mint()
    execute(core, "UPDATE compute_worker_tokens SET quarantined_at = now()")

    claimed = claim(client, token)
    beat = client.post(
        "/internal/workers/heartbeat", json={"worker_id": "w", "tasks": []}, headers=bearer(token)
    ).json

    assert claimed["count"] == 0
    assert beat["drain"] is True


def test_without_shared_tokens_only_workers_own_are_taken(
    core_with: Callable[..., Core], submit: Any
) -> None:
    submit()
    core = core_with(LOCAL_LOGIC.read_text(), internal_api_token=())
    client, token = create_app(core).test_client(), core.tokens.mint(MintRequest(name="a"), created_by="anna")

    for headers in (WORKER, {"X-Internal-Token": ""}, {}):
        assert client.get("/internal/workers/tasks?worker_id=w", headers=headers).status_code == 401
    assert claim(client, token)["count"] == 1


def test_a_token_that_cannot_be_looked_up_is_503_and_a_wrong_one_401_all_the_same(
    core_with: Callable[..., Core], mint: Mint
) -> None:
    token = mint()
    dead = core_with(LOCAL_LOGIC.read_text(), database_url="postgresql://nobody@127.0.0.1:1/none")
    client = create_app(dead).test_client()

    own = client.get("/internal/workers/tasks?worker_id=w", headers=bearer(token))
    wrong = client.get("/internal/workers/tasks?worker_id=w", headers={"X-Internal-Token": "wrong"})

    assert (own.status_code, own.json["error"]["code"]) == (503, "store_unavailable")
    assert own.headers["Retry-After"]
    assert wrong.status_code == 401


def test_a_secret_is_in_no_log(
    client: FlaskClient, mint: Mint, submit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    submit()
    token = mint()

    with caplog.at_level("DEBUG"):
        (task,) = claim(client, token)["tasks"]
        send(client, token, task)
        client.get("/ops/tokens", headers=OPS)

    assert token.token not in caplog.text
