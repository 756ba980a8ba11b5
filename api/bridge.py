"""The poll bridge: the five verbs over HTTP, for workers that cannot reach Redis."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response
from pydantic import BaseModel, Field

from api.answers import json_answer, task_json
from api.operation import caller, core, operation
from api.query import Query
from api.tasks import find_task_id
from gifty_compute.errors import InvalidRequest
from gifty_compute.wire.task import (
    HeartbeatRequest,
    Holder,
    ReleaseRequest,
    ResultRequest,
    Task,
    Want,
    WorkerName,
)
from gifty_compute.wire.text import CleanText

__all__ = ["blueprint"]

blueprint = Blueprint("bridge", __name__)


class ClaimQuery(Query):
    """What a worker asks for. One that names models, a lease or a claim_id is taken to send heartbeats."""

    worker_id: WorkerName
    task_type: list[CleanText] = Field(default=[], max_length=20)
    limit: int = Field(default=10, ge=1, le=100)
    model: list[CleanText] = Field(default=[], max_length=20)
    lease: int | None = Field(default=None, ge=30, le=900)
    claim_id: UUID | None = None
    session: CleanText = Field(default="", max_length=200)
    id: list[UUID] = Field(default=[], max_length=100)


class ClaimAnswer(BaseModel):
    """Tasks that are the caller's now, each for `lease_seconds`."""

    tasks: list[Task]
    count: int
    lease_seconds: float
    server_time: str


class HeartbeatAnswer(BaseModel):
    """What is no longer the caller's; `drain` asks it to claim nothing more."""

    lease_seconds: float
    lost: list[UUID]
    cancelled: list[UUID]
    drain: bool


class ReleaseAnswer(BaseModel):
    """The tasks that were still the caller's and are pending again."""

    released: list[UUID]


@blueprint.get("/internal/workers/tasks")
@operation(scope="internal", query=ClaimQuery, answers={200: ClaimAnswer}, errors=(401, 422, 503))
def claim(query: ClaimQuery) -> Response:
    """Hands out ready tasks; each becomes `processing` and nobody else's."""
    wanted = Want(
        task_types=tuple(query.task_type),
        models=tuple(query.model),
        ids=tuple(query.id),
        limit=query.limit,
        lease_seconds=query.lease,
        bare=not (query.model or query.lease or query.claim_id),
        claim_id=query.claim_id,
    )
    logic = core().logic
    for task_type in query.task_type:
        logic.require_type(task_type)
    holder = Holder(worker_id=query.worker_id, session=query.session, credential=caller())
    if logic.file.features.enable_external_workers:
        claimed = core().store.claim(holder, wanted)
        tasks, lease = claimed.tasks, claimed.lease_seconds
    else:
        tasks, lease = (), logic.file.leases.seconds
    answer = {
        "tasks": [task_json(task) for task in tasks],
        "count": len(tasks),
        "lease_seconds": lease,
        "server_time": core().clock.now(),
    }
    return json_answer(answer)


@blueprint.post("/internal/workers/tasks/<task_id>/result")
@operation(
    scope="internal", body=ResultRequest, answers={200: Task}, errors=(400, 401, 404, 409, 413, 415, 422, 503)
)
def result(task_id: str, body: ResultRequest) -> Response:
    """Takes how a task ended. The first valid result wins; the same outcome again is answered alike."""
    stored = core().store.get(find_task_id(task_id))
    # Without an attempt the sender speaks of whichever was handed out: the store reads 0 as "unsaid".
    task = stored.model_copy(update={"attempt": body.attempt or 0})
    holder = Holder(worker_id=body.worker_id or "", session=body.session, credential=caller())
    if body.status == "failed":
        error = body.error or "the worker gave no reason"
        return json_answer(task_json(core().store.fail(holder, task, error, retryable=body.retryable)))
    if body.result is None:
        raise InvalidRequest("a completed task has a result", param="result")
    return json_answer(task_json(core().store.complete(holder, task, body.result)))


@blueprint.post("/internal/workers/heartbeat")
@operation(
    scope="internal",
    body=HeartbeatRequest,
    answers={200: HeartbeatAnswer},
    errors=(400, 401, 413, 415, 422, 503),
)
def heartbeat(body: HeartbeatRequest) -> Response:
    """Renews each lease by its own length."""
    holder = Holder(worker_id=body.worker_id, session=body.session, credential=caller())
    extension = core().store.extend(holder, body.tasks)
    answer: dict[str, Any] = {
        "lease_seconds": core().logic.file.leases.seconds,
        "lost": extension.lost,
        "cancelled": extension.cancelled,
        "drain": False,
    }
    return json_answer(answer)


@blueprint.post("/internal/workers/release")
@operation(
    scope="internal",
    body=ReleaseRequest,
    answers={200: ReleaseAnswer},
    errors=(400, 401, 413, 415, 422, 503),
)
def release(body: ReleaseRequest) -> Response:
    """Takes tasks back unharmed: pending again at once."""
    holder = Holder(worker_id=body.worker_id, session=body.session, credential=caller())
    return json_answer({"released": core().store.release(holder, body.tasks)})
