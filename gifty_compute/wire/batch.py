"""A batch as the contract shows it: many tasks that came together, and what is asked of them as a whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gifty_compute.wire.task import Status

__all__ = ["MAX_LINES", "Batch", "BatchCounts", "BatchOptions", "BatchResult"]

MAX_LINES = 100_000
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: Any) -> Any:
    # pydantic alone would take a number of seconds, too.
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise PydanticCustomError("not_a_time", "not a time like 2026-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    # PostgreSQL knows no zone beyond 16 hours, and what it gives back must have a year that Python knows.
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("not_a_time", "not a time from the year 1 to 9999 in UTC") from error


class BatchOptions(BaseModel):
    """What is asked of a batch as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    callback_url: str | None = Field(default=None, max_length=2048)
    finish_by: Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_in_utc)] | None = Field(
        default=None, description="When all of it shall be done; a time in the future."
    )
    max_cost: float | None = Field(
        default=None, ge=0, le=1e6, allow_inf_nan=False, description="What paid providers may cost, in USD."
    )


class BatchCounts(BaseModel):
    """How many tasks of a batch are in each status."""

    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class Batch(BaseModel):
    """A row of compute_batches, with what its tasks say."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    total: int
    counts: BatchCounts
    rate: float | None = Field(description="Tasks that end in a second, of late; null once all have ended.")
    eta: datetime | None = Field(
        description="When the last would end at this rate; null where none can be told."
    )
    generation: int = Field(description="1, and one more with each retry of the batch or of a task in it.")
    created_at: datetime
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    retry_requested_at: datetime | None = Field(description="Set until all that shall be retried is pending.")
    finish_by: datetime | None
    max_cost: float | None
    cost_usd: float
    plan: dict[str, Any] | None


class BatchResult(BaseModel):
    """A line of the results: one task, in the order of the submit. `position` counts from 0."""

    id: UUID
    position: int
    task_type: str
    status: Status
    result: dict[str, Any] | None
    error: str | None
    metadata: dict[str, Any] | None
