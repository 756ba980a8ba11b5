"""Answers as JSON: arrays, ids and times are written as the contract shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

from gifty_compute.wire.task import Task

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["json_answer", "task_json"]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as a JSON answer. float16 vectors are widened, which loses nothing."""
    body = orjson.dumps(value, option=_OPTIONS, default=_widened)
    lines = [("Content-Length", str(len(body))), *(headers or {}).items()]
    return _Whole(body, status=status, headers=lines, content_type="application/json")


class _Whole(Response):
    """An answer with all its headers and one piece of body: there is nothing to add and nothing to close.

    A list lets granian send it as one message instead of a stream.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else self.get_data()]


def task_json(task: Task) -> dict[str, Any]:
    """The task's fields, not copied: `result.embeddings` may be an array."""
    return dict(task.__dict__)


def _widened(value: Any) -> Any:
    # orjson writes no float16, and only arrays that own their memory in C order.
    if hasattr(value, "astype"):
        return value.astype("float32").tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
