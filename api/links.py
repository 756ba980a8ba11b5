"""Links of the OpenAPI document: what the answer of one operation is good for in the next."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["links_of", "operation_id"]

_ID = "$response.body#/id"
_FIRST = "$response.body#/tasks/0"
_OF_TASK = (
    ("get", "/v1/tasks/{task_id}"),
    ("post", "/v1/tasks/{task_id}/cancel"),
    ("post", "/v1/tasks/{task_id}/retry"),
)
_OF_BATCH = (
    ("get", "/v1/batches/{batch_id}"),
    ("get", "/v1/batches/{batch_id}/results"),
    ("post", "/v1/batches/{batch_id}/cancel"),
    ("post", "/v1/batches/{batch_id}/retry"),
)
_REPORT = {"worker_id": "$request.query.worker_id", "status": "failed", "attempt": f"{_FIRST}/attempt"}


def operation_id(method: str, path: str) -> str:
    """The name of an operation, which links go by.

    >>> operation_id("get", "/v1/tasks/{task_id}")
    'get_v_tasks_task_id'
    """
    return f"{method}_{re.sub(r'[^a-z]+', '_', path.lower()).strip('_')}"


def links_of(answer: str) -> dict[str, Any]:
    """Where one goes on from an answer, by the name of its model."""
    match answer:
        case "Task" | "TaskView":
            return _to(_OF_TASK, "task_id", _ID)
        case "Batch":
            return _to(_OF_BATCH, "batch_id", _ID)
        case "ClaimAnswer":
            report = ("post", "/internal/workers/tasks/{task_id}/result")
            [(name, link)] = _to((report,), "task_id", f"{_FIRST}/id").items()
            return {name: {**link, "requestBody": _REPORT}}
        case "CallbackList":
            resend = ("post", "/ops/callbacks/{callback_id}/resend")
            return _to((resend,), "callback_id", "$response.body#/callbacks/0/id")
    return {}


def _to(operations: tuple[tuple[str, str], ...], parameter: str, value: str) -> dict[str, Any]:
    names = [operation_id(method, path) for method, path in operations]
    return {name: {"operationId": name, "parameters": {parameter: value}} for name in names}
