"""The calls about batches as values. No input, no output."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

from gifty_compute.client.calls import SPARE_SECONDS, ApiCall, Upload, checked_key
from gifty_compute.client.reading import Headers
from gifty_compute.wire.batch import Batch

__all__ = ["Whole", "batch", "cancel", "results", "retry", "submit"]

# Of one reading of results; a reader who is slower goes on where he was.
_READ_SECONDS = 300.0


class Whole(TypedDict, total=False):
    """What is asked of a batch as a whole. `key` is its Idempotency-Key; `timeout` is of the upload, in
    seconds."""

    key: str | None
    callback_url: str | None
    finish_by: datetime | None
    max_cost: float | None
    timeout: float | None


def submit(lines: Upload, **whole: Unpack[Whole]) -> ApiCall[Batch]:
    """Always under an Idempotency-Key: a submit whose answer was lost may be repeated."""
    finish_by, max_cost = whole.get("finish_by"), whole.get("max_cost")
    if finish_by is not None and finish_by.tzinfo is None:
        raise ValueError("finish_by: a time with its zone is wanted")
    query = {
        "callback_url": whole.get("callback_url"),
        "finish_by": None if finish_by is None else finish_by.isoformat(),
        "max_cost": None if max_cost is None else repr(max_cost),
    }
    headers = {
        "Idempotency-Key": checked_key(whole.get("key") or uuid.uuid4().hex),
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": "gzip",
        "Content-Length": str(len(lines)),
    }
    return ApiCall(
        "POST",
        "/v1/batches",
        _batch,
        query={name: value for name, value in query.items() if value is not None},
        headers=headers,
        upload=lines,
        timeout=whole.get("timeout") or 600.0,
        repeatable=True,
    )


def batch(batch_id: str, *, wait: float = 0) -> ApiCall[Batch]:
    """The batch; with `wait` as soon as it has ended or so many seconds have passed."""
    query = {"wait": f"{wait:.3f}"} if wait else {}
    timeout = wait + SPARE_SECONDS if wait else None
    return ApiCall("GET", _path(batch_id), _batch, query=query, timeout=timeout, repeatable=True)


def cancel(batch_id: str) -> ApiCall[Batch]:
    return ApiCall("POST", f"{_path(batch_id)}/cancel", _batch, repeatable=True)


def retry(batch_id: str) -> ApiCall[Batch]:
    """Not repeatable: the second may find that nothing has failed any more, which is a conflict."""
    return ApiCall("POST", f"{_path(batch_id)}/retry", _batch)


def results(batch_id: str, *, first: int) -> ApiCall[Any]:
    """A stream of lines, from this position on."""
    return ApiCall(
        "GET",
        f"{_path(batch_id)}/results",
        lambda body, _: body,
        query={"encoding_format": "base64", "first": str(first)},
        headers={"Accept": "application/x-ndjson"},
        timeout=_READ_SECONDS,
        repeatable=True,
    )


def _batch(body: Any, _: Headers) -> Batch:
    return Batch.model_validate(body)


def _path(batch_id: str) -> str:
    return f"/v1/batches/{quote(str(batch_id), safe='')}"
