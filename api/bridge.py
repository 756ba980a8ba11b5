"""The poll bridge: claim, extend and release over HTTP, for workers that cannot reach Redis."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, Response
from pydantic import BaseModel, Field

from api.admission import Kind, admission
from api.answers import json_answer, task_json
from api.compression import compressed
from api.facade import this_request
from api.operation import caller, core, holder_of, operation
from api.places import Leave
from api.query import Query
from gifty_compute.backoff import Backoff
from gifty_compute.clock import Deadline
from gifty_compute.core import Core
from gifty_compute.errors import Unauthorized
from gifty_compute.logging import InContext
from gifty_compute.wire.body import Many
from gifty_compute.wire.json import write_json
from gifty_compute.wire.task import (
    Claimed,
    HeartbeatRequest,
    Holder,
    ReleaseRequest,
    Task,
    Want,
    WorkerName,
)
from gifty_compute.wire.text import CleanText

__all__ = ["blueprint", "in_scope"]

blueprint = Blueprint("bridge", __name__)
blueprint.after_request(compressed)

# Woken, and yet nothing was to be had: others were faster, or the worker holds all that it may.
_UNLUCKY = Backoff(base=0.05, cap=1.0)
_MOST_NAMES = 100


class ClaimQuery(Query):
    """What a worker asks for. Who names models, spaces, a lease or a claim_id is taken to send heartbeats.

    With ids nothing is waited for.
    """

    worker_id: WorkerName
    task_type: Many[CleanText] = Field(default=[], max_length=20)
    limit: int = Field(default=10, ge=1, le=100)
    model: Many[CleanText] = Field(default=[], max_length=20)
    space: Many[CleanText] = Field(default=[], max_length=20)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    lease: int | None = Field(default=None, ge=30, le=900)
    claim_id: UUID | None = None
    session: CleanText = Field(default="", max_length=200)
    id: Many[UUID] = Field(default=[], max_length=100)
    wait: float = Field(default=0, ge=0, le=30)

    def want(self) -> Want:
        """The same as the store takes it."""
        return Want(
            task_types=tuple(self.task_type),
            models=tuple(self.model),
            spaces=tuple(self.space),
            ids=tuple(self.id),
            limit=self.limit,
            max_tokens=self.max_tokens,
            lease_seconds=self.lease,
            bare=not (self.model or self.space or self.lease or self.claim_id),
            claim_id=self.claim_id,
            wait_seconds=0 if self.id else self.wait,
        )


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
@operation(
    scope="internal", query=ClaimQuery, answers={200: ClaimAnswer}, errors=(401, 422, 503), claims=True
)
def claim(query: ClaimQuery) -> Response:
    """Hands out ready tasks; each becomes `processing` and nobody else's."""
    for task_type in query.task_type:
        core().logic.require_type(task_type)
    want, holder = in_scope(query.want()), holder_of(query.worker_id, query.session)
    if (own := this_request().worker_token) and own.quarantined_at:
        # What it would be handed nobody would believe.
        return json_answer(_claimed(core(), _none(core())))
    with admission().place(Kind.WORKERS, caller()):
        canary = core().trust.canary(holder, own, want) if own and not holder.trusted else ()
        rest = want.model_copy(update={"limit": want.limit - len(canary)})
        claimed = _claim(core(), holder, rest) if rest.limit else _none(core())
        if canary:
            # Not always in front, where it would be looked for.
            mixed = core().rng.sample([*canary, *claimed.tasks], len(canary) + len(claimed.tasks))
            claimed = claimed.model_copy(update={"tasks": tuple(mixed)})
    core().fleet.asked(query.worker_id, want.models, claimed.tasks)
    if not claimed.tasks and want.wait_seconds:
        body = InContext(
            _long_poll(core(), partial(admission().try_enter, Kind.WAITS, caller()), holder, want)
        )
        return Response(body, mimetype="application/json")
    return json_answer(_claimed(core(), claimed))


def in_scope(want: Want) -> Want:
    """What of it the worker's own token may claim. Raises Unauthorized where that is nothing."""
    own = this_request().worker_token
    if own is None:
        return want
    allowed = own.in_scope(want.task_types)
    if want.task_types and not allowed:
        raise Unauthorized
    return want.model_copy(update={"task_types": allowed})


def _none(core: Core) -> Claimed:
    return Claimed(tasks=(), lease_seconds=core.logic.file.leases.seconds)


def _claim(core: Core, holder: Holder, want: Want) -> Claimed:
    if not core.logic.file.features.enable_external_workers:
        return _none(core)
    core.presence.asked(holder, want)
    return core.leases.claim(holder, want)


def _claimed(core: Core, claimed: Claimed) -> dict[str, Any]:
    return {
        "tasks": [task_json(task) for task in claimed.tasks],
        "count": len(claimed.tasks),
        "lease_seconds": claimed.lease_seconds,
        "server_time": core.clock.now(),
    }


def _long_poll(
    core: Core, try_enter: Callable[[], Leave | None], holder: Holder, want: Want
) -> Generator[bytes, None, None]:
    """The body of a claim that waits: a space, which JSON ignores, before each claim, then the answer.

    Only who writes learns that the client has hung up: the server closes the body then, in front of the
    claim, and no task is handed to nobody. When the database fails meanwhile the answer breaks off: its
    status is sent by then, and a claim that may have been made must be asked for again by its claim_id.
    """
    claimed, unlucky = _none(core), 0
    until = Deadline.after(want.wait_seconds, core.clock)
    leave = try_enter()
    try:
        while leave is not None and core.waits.wait_for_work(want, until.remaining):
            yield b" "
            claimed = _claim(core, holder, want)
            if claimed.tasks:
                core.fleet.asked(holder.worker_id, want.models, claimed.tasks)
                break
            unlucky += 1
            core.clock.sleep(min(until.remaining, _UNLUCKY.ceiling(unlucky)))
    finally:
        if leave is not None:
            leave()
    yield write_json(_claimed(core, claimed))


@blueprint.post("/internal/workers/heartbeat")
@operation(
    scope="internal",
    body=HeartbeatRequest,
    answers={200: HeartbeatAnswer},
    errors=(400, 401, 413, 415, 422, 503),
)
def heartbeat(body: HeartbeatRequest) -> Response:
    """Renews each lease by its own length; `exhaustive` names all that the session holds."""
    logic, own = core().logic.file, this_request().worker_token
    with admission().place(Kind.WORKERS, caller()):
        holder = holder_of(body.worker_id, body.session)
        extension = core().leases.extend(holder, body.tasks, exhaustive=body.exhaustive)
    serves = _served(body.info)
    _present(holder, serves)
    if not serves:
        # Of a Celery worker, which says what it serves, Flower knows by itself.
        core().fleet.beat(body.worker_id, body.info, len(body.tasks) if body.exhaustive else None)
    answer: dict[str, Any] = {
        "lease_seconds": logic.leases.seconds,
        "lost": extension.lost,
        "cancelled": extension.cancelled,
        "drain": not logic.features.enable_external_workers or bool(own and own.quarantined_at),
    }
    return json_answer(answer)


def _present(holder: Holder, serves: list[Want]) -> None:
    """A heartbeat shows that the worker is there, and one that names what it takes is as good as a claim."""
    own = this_request().worker_token
    if not core().logic.file.features.enable_external_workers or (own and own.quarantined_at):
        return
    core().presence.beat(holder)
    for want in serves:
        if own is None or own.in_scope(want.task_types):
            core().presence.asked(holder, want)


def _served(info: dict[str, Any] | None) -> list[Want]:
    """What a worker says that it takes, as `{"serves": {type: [models]}}`; nothing of any other form."""
    serves = (info or {}).get("serves")
    if not isinstance(serves, dict) or len(serves) > _MOST_NAMES:
        return []
    return [
        Want(task_types=(task_type,), models=tuple(models))
        for task_type, models in serves.items()
        if isinstance(models, list) and 0 < len(models) <= _MOST_NAMES and _are_names(models)
    ]


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


@blueprint.post("/internal/workers/release")
@operation(
    scope="internal",
    body=ReleaseRequest,
    answers={200: ReleaseAnswer},
    errors=(400, 401, 413, 415, 422, 503),
)
def release(body: ReleaseRequest) -> Response:
    """Takes tasks back unharmed: pending again at once."""
    with admission().place(Kind.WORKERS, caller()):
        holder = holder_of(body.worker_id, body.session)
        released = core().leases.release(holder, body.tasks, body.reason)
    core().fleet.released(body.worker_id, len(released))
    return json_answer({"released": released})
