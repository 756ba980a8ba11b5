"""From what a caller asks to the columns of a task: checked by its type, with model and space filled in."""

from __future__ import annotations

from typing import Any

import orjson

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.wire.body import parse
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.size import estimated_tokens
from gifty_compute.wire.task import MAX_METADATA_BYTES, SubmitRequest

__all__ = ["columns_of", "placed"]


def columns_of(logic: Logic, request: SubmitRequest, client: str) -> dict[str, Any]:
    """The columns that a request of this client decides. Raises InvalidRequest, NotAllowed."""
    metadata = None if request.metadata is None else orjson.dumps(request.metadata)
    if metadata and len(metadata) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"metadata is over {MAX_METADATA_BYTES} bytes", param="metadata")
    columns = placed(logic, request.task_type, request.payload, where="payload")
    logic.refuse_to(client, request.task_type, columns["model"])
    return {
        "task_type": request.task_type,
        "priority": request.priority,
        **columns,
        "max_attempts": request.max_attempts,
        "metadata": metadata.decode() if metadata else None,
        "callback_url": request.callback_url,
    }


def placed(logic: Logic, task_type: str, payload: dict[str, Any], *, where: str = "") -> dict[str, Any]:
    """The columns payload, model, space and tokens of such a task. Raises InvalidRequest."""
    logic.require_type(task_type)
    declared = logic.declared(task_type)
    if declared is not None:
        declared.check_payload(payload, where)
        return _columns(logic, task_type, payload, logic.model_of_declared(task_type))
    parse(KINDS[task_type].payload, payload, where=where)
    full = logic.place(task_type, payload)
    return _columns(logic, task_type, full, full["model"])


def _columns(logic: Logic, task_type: str, payload: dict[str, Any], model: str) -> dict[str, Any]:
    return {
        "payload": orjson.dumps(payload).decode(),
        "model": model,
        "space": logic.space_name(task_type, model),
        "tokens": estimated_tokens(payload),
    }
