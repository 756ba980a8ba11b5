"""A callback as its receiver gets it, and as operators see it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from gifty_compute.wire.batch import Batch
from gifty_compute.wire.task import Task

__all__ = ["Callback", "CallbackBody", "CallbackList", "LongTask"]


class LongTask(Task):
    """A task whose result is left out of the callback, since it would be over a mebibyte with it."""

    result_url: str


class CallbackBody(BaseModel):
    """What is POSTed to a callback_url, signed by Standard Webhooks: see docs/callbacks.md."""

    type: Literal["task.completed", "task.failed", "task.corrected", "batch.finished"]
    timestamp: datetime
    data: Task | LongTask | Batch


class Callback(BaseModel):
    """A row of compute_callbacks: an end of a task or a batch, and how far its receiver has been told.

    It is due (`due_at`: the next try, or during one the end of its lease), delivered, or dead. Its id is the
    `webhook-id` that the receiver gets with every try.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    type: str
    task_id: UUID | None
    batch_id: UUID | None
    url: str
    receiver: str
    created_at: datetime
    due_at: datetime | None
    tries: int
    delivered_at: datetime | None
    dead_at: datetime | None
    error: str | None


class CallbackList(BaseModel):
    """A page of callbacks, newest first."""

    callbacks: list[Callback]
    next_cursor: str | None
