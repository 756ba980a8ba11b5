"""Answers as JSON: arrays, ids and times are written as the contract shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Response

from gifty_compute.arrays import np
from gifty_compute.wire import vectors
from gifty_compute.wire.json import write_json
from gifty_compute.wire.task import Task

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["json_answer", "task_json"]


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as a JSON answer."""
    body = write_json(value)
    lines = [("Content-Length", str(len(body))), *(headers or {}).items()]
    return _Whole(body, status=status, headers=lines, content_type="application/json")


class _Whole(Response):
    """An answer with all its headers and one piece of body: there is nothing to add and nothing to close.

    A list lets granian send it as one message instead of a stream.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else self.get_data()]


def task_json(task: Task, encoding_format: str = "float") -> dict[str, Any]:
    """The task's fields, not copied: `result.embeddings` may be an array; as base64 it is the binary form."""
    fields = dict(task.__dict__)
    result = task.result or {}
    found = result.get("embeddings") if encoding_format == "base64" else None
    if found is not None and isinstance(found, np.ndarray):
        fields["result"] = {**result, "embeddings": vectors.encode(found)}
    return fields
