"""Batches: many tasks in one call, watched, cancelled and tried again as one."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from pydantic import Field
from werkzeug.wsgi import get_input_stream

from api.admission import Kind, admission
from api.answers import json_answer
from api.operation import caller, core, operation, sight
from api.query import Query
from api.tasks import origin, path_id, refuse_over_depth, wait_for_end
from gifty_compute.errors import UnsupportedMedia
from gifty_compute.queue.upload import Upload, UploadLimits
from gifty_compute.wire.batch import Batch, BatchOptions
from gifty_compute.wire.task import SubmitRequest

__all__ = ["JSON_LINES", "blueprint"]

blueprint = Blueprint("batches", __name__)

JSON_LINES = "application/x-ndjson"


class BatchQuery(Query):
    """How long the caller is ready to wait for the end, in seconds."""

    wait: float = Field(default=0, ge=0, le=60)


@blueprint.post("/v1/batches")
@operation(
    scope="api",
    query=BatchOptions,
    lines=SubmitRequest,
    answers={202: Batch, 200: Batch},
    errors=(400, 401, 403, 409, 413, 415, 422, 503),
    headers=("Idempotency-Key", "Content-Encoding"),
)
def submit_batch(query: BatchOptions) -> Response:
    """Commits one task a line, or none. 200 with the first batch when this key and body came before."""
    with admission().place(Kind.UPLOADS, caller()):
        sender = origin()
        refuse_over_depth(sender, core().batches.was_submitted)
        submitted = core().batches.submit(_upload(), query, sender)
    if submitted.new:
        core().depth.add(sender.client, submitted.batch.total)
        core().announcer.catch_up(submitted.ready)
    location = {"Location": f"/v1/batches/{submitted.batch.id}"}
    return json_answer(_json(submitted.batch), 202 if submitted.new else 200, location)


@blueprint.get("/v1/batches/<batch_id>")
@operation(scope="api", query=BatchQuery, answers={200: Batch}, errors=(401, 404, 422, 503))
def get_batch(batch_id: str, query: BatchQuery) -> Response:
    """The batch, at once or as soon as all of it has ended or the seconds have passed."""
    found = core().batches.get(sight(), path_id(batch_id, "batch"))
    if query.wait and found.finished_at is None:
        wait_for_end(found.id, query.wait)
        found = core().batches.get(sight(), found.id)
    return json_answer(_json(found))


@blueprint.post("/v1/batches/<batch_id>/cancel")
@operation(scope="api", answers={200: Batch}, errors=(401, 404, 409, 503))
def cancel_batch(batch_id: str) -> Response:
    """Ends all that has not ended; a large batch goes on being cancelled after the answer."""
    found = path_id(batch_id, "batch")
    core().batches.cancel(sight(), found)
    return json_answer(_json(core().batches.get(sight(), found)))


@blueprint.post("/v1/batches/<batch_id>/retry")
@operation(scope="api", answers={200: Batch}, errors=(401, 404, 409, 503))
def retry_batch(batch_id: str) -> Response:
    """Begins a new generation of all that failed or was cancelled; a large batch goes on after the answer."""
    found = path_id(batch_id, "batch")
    core().announcer.catch_up(core().batches.retry(sight(), found))
    return json_answer(_json(core().batches.get(sight(), found)))


def _json(batch: Batch) -> dict[str, Any]:
    return batch.model_dump()


def _upload() -> Upload:
    if request.mimetype != JSON_LINES:
        raise UnsupportedMedia(f"the body must be {JSON_LINES}, one task a line")
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia(f"Content-Encoding may be gzip, not {encoding[:40]!r}")
    settings = core().settings
    # Not request.stream: its limit is that of bodies which are held in memory.
    return Upload(
        get_input_stream(request.environ),
        UploadLimits(line_bytes=settings.max_body_bytes, bytes=settings.max_batch_bytes),
        gzip=encoding == "gzip",
        length=request.content_length,
    )
