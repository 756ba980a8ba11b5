"""The timeline of a task as operators see it: who held which attempt, and how each ended; no payload."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from gifty_compute.wire.task import Status

__all__ = ["AttemptEnd", "Timeline"]


class AttemptEnd(BaseModel):
    """An attempt that is over. `end`: failed, expired, missed, cancelled, overtaken, drain, oom, …"""

    model_config = ConfigDict(frozen=True)

    attempt: int
    generation: int
    credential: str | None
    worker_id: str | None
    session: str | None
    since: datetime | None
    until: datetime | None
    lease_until: datetime | None
    end: str


class Timeline(BaseModel):
    """A task's life so far. The present attempt, or the one that ended it, is in the fields of the task."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    task_type: str
    model: str | None
    status: Status
    client: str
    batch_id: UUID | None
    generation: int
    revision: int
    attempt: int
    failures: int
    suspect: bool
    credential: str | None
    worker_id: str | None
    session: str | None
    created_at: datetime
    available_at: datetime | None
    started_at: datetime | None
    lease_expires_at: datetime | None
    completed_at: datetime | None
    error: str | None
    history: list[AttemptEnd]
