"""What operators see and do: the life of a task; callbacks that wait or were given up, sent again."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from flask import Blueprint, Response
from pydantic import Field

from api.answers import json_answer
from api.operation import core, operation
from api.query import Query
from api.tasks import find_task_id
from gifty_compute.callbacks.receivers import masked
from gifty_compute.errors import NotFound
from gifty_compute.queue.outbox import State
from gifty_compute.wire.callback import Callback, CallbackList
from gifty_compute.wire.text import CleanText
from gifty_compute.wire.timeline import Timeline

__all__ = ["blueprint"]

blueprint = Blueprint("ops", __name__)
_CALLBACK_ID = re.compile(r"[0-9a-f-]{36}\.[0-9]{1,10}\.[a-z.]{1,40}")


class CallbacksQuery(Query):
    """Which callbacks. Of one task or batch all, and else the dead, unless a state is named."""

    state: State | None = None
    task_id: UUID | None = None
    batch_id: UUID | None = None
    cursor: CleanText | None = Field(default=None, max_length=200)
    limit: int = Field(default=20, ge=1, le=100)


@blueprint.get("/ops/callbacks")
@operation(scope="ops", query=CallbacksQuery, answers={200: CallbackList}, errors=(401, 422, 503))
def list_callbacks(query: CallbacksQuery) -> Response:
    """Callbacks, newest first; next_cursor is null on the last page. Queries of URLs are masked."""
    of_one = query.task_id or query.batch_id
    found = core().callbacks.outbox.page(
        state=query.state or ("any" if of_one else "dead"),
        limit=query.limit + 1,
        before=query.cursor,
        task_id=query.task_id,
        batch_id=query.batch_id,
    )
    page = found[: query.limit]
    next_cursor = page[-1].id if len(found) > query.limit else None
    return json_answer({"callbacks": [_shown(one) for one in page], "next_cursor": next_cursor})


@blueprint.post("/ops/callbacks/<callback_id>/resend")
@operation(scope="operator", answers={200: Callback}, errors=(401, 404, 503))
def resend(callback_id: str) -> Response:
    """Due at once, with a day of tries before it; the receiver knows it again by its webhook-id."""
    if not _CALLBACK_ID.fullmatch(callback_id):
        raise NotFound("there is no such callback")
    return json_answer(_shown(core().callbacks.outbox.resend(callback_id)))


@blueprint.get("/ops/tasks/<task_id>")
@operation(scope="ops", answers={200: Timeline}, errors=(401, 404, 503))
def timeline(task_id: str) -> Response:
    """A task's life: who held which attempt, from when until when, how it ended. No payload, no result."""
    return json_answer(core().store.timeline(find_task_id(task_id)).model_dump())


def _shown(callback: Callback) -> dict[str, Any]:
    return {**callback.__dict__, "url": masked(callback.url)}
