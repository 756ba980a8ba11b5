"""Low priority: a task is committed, found again, waited for and listed."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from flask import Blueprint, Response, request
from pydantic import Field

from api.admission import Kind, admission
from api.answers import json_answer
from api.compression import compressed
from api.operation import caller, core, operation, request_id, sight
from api.query import VectorsQuery
from api.waiting import task_view
from gifty_compute.errors import InvalidRequest, NotFound, OverLimit
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import Status, SubmitRequest, TaskList, TaskView
from gifty_compute.wire.text import CleanText

__all__ = [
    "WaitQuery",
    "blueprint",
    "find_task_id",
    "origin",
    "path_id",
    "refuse_over_depth",
    "submit",
    "wait_for_end",
]

blueprint = Blueprint("tasks", __name__)
blueprint.after_request(compressed)
MAX_KEY_LENGTH = 255


class WaitQuery(VectorsQuery):
    """How long the caller is ready to wait for the end, in seconds."""

    wait: float = Field(default=0, ge=0, le=60)


class ListQuery(VectorsQuery):
    """Which tasks, and which page of them."""

    status: Status | None = None
    task_type: CleanText | None = Field(default=None, max_length=200)
    batch_id: UUID | None = None
    cursor: int | None = Field(default=None, ge=1, le=2**63 - 1)
    limit: int = Field(default=20, ge=1, le=100)


@blueprint.post("/v1/tasks")
@operation(
    scope="api",
    body=SubmitRequest,
    answers={202: TaskView, 200: TaskView},
    errors=(400, 401, 403, 409, 413, 415, 422, 503),
    headers=("Idempotency-Key",),
)
def submit_task(body: SubmitRequest) -> Response:
    """Commits a task. 200 with the first one when this key and body came before."""
    return submit(body)


@blueprint.get("/v1/tasks/<task_id>")
@operation(scope="api", query=WaitQuery, answers={200: TaskView}, errors=(401, 404, 422, 503))
def get_task(task_id: str, query: WaitQuery) -> Response:
    """The task, at once or as soon as it has ended or the seconds have passed."""
    found = core().store.get(sight(), find_task_id(task_id))
    if query.wait and found.completed_at is None:
        wait_for_end(found.id, query.wait)
        found = core().store.get(sight(), found.id)
    return json_answer(task_view(core(), found, query.encoding_format))


@blueprint.post("/v1/tasks/<task_id>/cancel")
@operation(scope="api", answers={200: TaskView}, errors=(401, 404, 409, 503))
def cancel_task(task_id: str) -> Response:
    """Ends a task that has not ended; the worker that holds it learns it from its next heartbeat."""
    return json_answer(task_view(core(), core().store.cancel(sight(), find_task_id(task_id))))


@blueprint.post("/v1/tasks/<task_id>/retry")
@operation(scope="api", answers={200: TaskView}, errors=(401, 404, 409, 503))
def retry_task(task_id: str) -> Response:
    """Begins a new generation of a task that failed or was cancelled."""
    task = core().store.retry(sight(), find_task_id(task_id))
    core().announcer.announce(task)
    return json_answer(task_view(core(), task))


@blueprint.get("/v1/tasks")
@operation(scope="api", query=ListQuery, answers={200: TaskList}, errors=(401, 422, 503))
def list_tasks(query: ListQuery) -> Response:
    """The client's own tasks, newest first; next_cursor is null on the last page."""
    tasks, cursor = core().store.page(
        sight(),
        limit=query.limit,
        before=query.cursor,
        status=query.status,
        task_type=query.task_type,
        batch_id=query.batch_id,
    )
    next_cursor = str(cursor) if cursor is not None else None
    shown = [task_view(core(), task, query.encoding_format) for task in tasks]
    return json_answer({"tasks": shown, "next_cursor": next_cursor})


def submit(body: SubmitRequest) -> Response:
    """Commits, then announces; the announcement may fail, the answer is true all the same."""
    if body.callback_url is not None:
        core().callbacks.receivers.admit(body.callback_url)
    sender = origin()
    refuse_over_depth(sender, core().store.was_submitted)
    task, new = core().store.submit(body, sender)
    if new:
        core().depth.add(sender.client)
        core().announcer.announce(task)
    return json_answer(task_view(core(), task), 202 if new else 200, {"Location": f"/v1/tasks/{task.id}"})


def refuse_over_depth(sender: Origin, was_submitted: Callable[[Origin], bool]) -> None:
    """Raises OverLimit where too much of this client waits, but not for a submit that is repeated."""
    try:
        core().depth.admit(sender.client)
    except OverLimit:
        if not was_submitted(sender):
            raise


def origin() -> Origin:
    """Who submits, and what this request is called. Raises InvalidRequest for a key that is none."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters", param="Idempotency-Key")
    return Origin(client=caller(), request_id=request_id(), idempotency_key=key)


def wait_for_end(id_: UUID, seconds: float) -> None:
    """Returns when the task or batch has ended, the seconds have passed, or no place to wait at is free."""
    leave = admission().try_enter(Kind.WAITS, caller())
    if leave is None:
        return
    try:
        core().waits.wait(id_, seconds)
    finally:
        leave()


def find_task_id(text: str) -> UUID:
    """The task's id in a path. Raises NotFound for what cannot be one, as for one that is not there."""
    return path_id(text, "task")


def path_id(text: str, noun: str) -> UUID:
    """The id of such a thing in a path. Raises NotFound."""
    try:
        found = UUID(text)
    except ValueError as error:
        raise NotFound(f"there is no such {noun}") from error
    if str(found) != text.lower():
        raise NotFound(f"there is no such {noun}")
    return found
