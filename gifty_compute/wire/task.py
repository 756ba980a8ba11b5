"""A task as the contract shows it, and the bodies of the calls around it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SkipValidation

from gifty_compute.wire.body import Body, Many, Priority
from gifty_compute.wire.text import CleanText, JsonObject, SmallObject, Text

__all__ = [
    "ENDS",
    "Claimed",
    "Extension",
    "HeartbeatRequest",
    "Held",
    "Holder",
    "Outcome",
    "OutcomeVerdict",
    "ReleaseReason",
    "ReleaseRequest",
    "ResultRequest",
    "ResultsAnswer",
    "ResultsRequest",
    "Status",
    "SubmitRequest",
    "Task",
    "TaskList",
    "TaskView",
    "Want",
]

Status = Literal["pending", "processing", "completed", "failed", "cancelled"]
ENDS: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
MAX_METADATA_BYTES = 4096


class Task(BaseModel):
    """A row of compute_tasks. `result.embeddings` may be an array until it is written as JSON."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    id: UUID
    task_type: str
    priority: str
    status: Status
    payload: dict[str, Any]
    result: dict[str, Any] | None = None
    error: str | None = None
    worker_id: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    attempt: int
    failures: int
    max_attempts: int
    available_at: datetime | None = None
    lease_expires_at: datetime | None = None
    batch_id: UUID | None = None
    model: str | None = None
    space: str | None = None
    metadata: dict[str, Any] | None = None
    progress: float | None = None

    def under(self, attempt: int) -> Task:
        """The task as the attempt that is spoken of had it; mostly that is the one which is stored."""
        return self if self.attempt == attempt else self.model_copy(update={"attempt": attempt})


class TaskView(Task):
    """A task as its client sees it. Workers are handed the plain one."""

    waiting_for: str | None = None
    """Why it is pending, where that is not only its turn: no worker for its model, a backoff."""


class SubmitRequest(Body):
    """The body of POST /v1/tasks."""

    task_type: Text
    payload: JsonObject
    priority: Priority = "low"
    metadata: SmallObject | None = None
    callback_url: str | None = Field(default=None, max_length=2048)
    max_attempts: int = Field(default=5, ge=1, le=20)


class TaskList(BaseModel):
    """A page of tasks, newest first."""

    tasks: list[TaskView]
    next_cursor: str | None


WorkerName = Annotated[Text, Field(max_length=200)]
ReleaseReason = Literal["drain", "oom", "unsupported"]
Attempt = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Holder(BaseModel):
    """Who holds a lease: the credential it came with, and the instance within it.

    Over HTTP the facade fills in the credential from the token; what a worker says of it is not read.
    """

    model_config = ConfigDict(frozen=True)

    worker_id: str
    session: str = ""
    credential: str = ""
    strict: bool = False
    """Whether it must name an attempt that this very credential was handed: so with a token of its own."""
    trusted: bool = True
    """Whether its results are believed unseen."""
    newcomer: bool = False
    """Whether, if it is not trusted, all its results are still held back."""


class Want(BaseModel):
    """What a worker asks for: the first `limit` ready tasks of these types and models, or just these ids.

    Without models it is offered each type's configured default only. A bare claim comes from a worker that
    knows nothing of heartbeats; its lease is long. `claim_id` makes the claim safe to repeat. `max_tokens` is
    a sum of estimates: the first task comes even if it alone is larger. `wait_seconds` is how long the source
    may wait for work before it answers with none; one that does not wait answers at once.
    """

    model_config = ConfigDict(frozen=True)

    task_types: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    ids: tuple[UUID, ...] = ()
    limit: int = 10
    lease_seconds: float | None = None
    bare: bool = False
    claim_id: UUID | None = None
    spaces: tuple[str, ...] = ()
    max_tokens: int | None = None
    wait_seconds: float = 0


class Claimed(BaseModel):
    """Tasks that are now the caller's, and how long each lease is."""

    model_config = ConfigDict(frozen=True)

    tasks: tuple[Task, ...]
    lease_seconds: float


def _rounded(share: float) -> float:
    # It is stored as a single float, which refuses what is too near to 0 for it.
    return round(share, 6)


Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_rounded)]


class Held(Body):
    """One claim: a task and the attempt that fences it."""

    id: UUID = Field(strict=False)
    attempt: Attempt
    progress: Share | None = None


class Extension(BaseModel):
    """The answer to a heartbeat: what is no longer the caller's, and what nobody wants any more.

    `drain` asks the worker to claim nothing more.
    """

    lost: tuple[UUID, ...]
    cancelled: tuple[UUID, ...]
    drain: bool = False


class HeartbeatRequest(Body):
    """The body of POST /internal/workers/heartbeat."""

    worker_id: WorkerName
    session: CleanText = Field(default="", max_length=200)
    exhaustive: bool = Field(default=False, description="Whether `tasks` names all that this session holds.")
    tasks: Many[Held] = Field(max_length=1000)
    info: SmallObject | None = None


class ReleaseRequest(Body):
    """The body of POST /internal/workers/release."""

    worker_id: WorkerName
    session: CleanText = Field(default="", max_length=200)
    tasks: Many[Held] = Field(max_length=1000)
    reason: ReleaseReason


class ResultRequest(Body):
    """The body of POST /internal/workers/tasks/{id}/result."""

    status: Literal["completed", "failed"]
    result: dict[str, Any] | None = None
    error: CleanText | None = Field(default=None, max_length=100_000)
    worker_id: WorkerName | None = None
    session: CleanText = Field(default="", max_length=200)
    attempt: Attempt | None = None
    retryable: bool = True


class Outcome(Body):
    """How one task ended, among many."""

    id: UUID = Field(strict=False)
    attempt: Attempt | None = None
    status: Literal["completed", "failed"]
    result: dict[str, Any] | None = None
    error: CleanText | None = Field(default=None, max_length=100_000)
    retryable: bool = True


class ResultsRequest(Body):
    """The body of POST /internal/workers/results. Each outcome is parsed alone: a bad one spoils no other."""

    worker_id: WorkerName
    session: CleanText = Field(default="", max_length=200)
    results: Many[SkipValidation[Outcome]] = Field(min_length=1, max_length=1000)


class OutcomeVerdict(BaseModel):
    """What became of one outcome: `status` is the task's, or `refused` with the error's code and message."""

    id: UUID | None = Field(description="Null where the outcome named none.")
    status: Literal["pending", "processing", "completed", "failed", "cancelled", "refused"]
    http_status: int = Field(description="What the same outcome alone would have been answered.")
    code: str | None = None
    message: str | None = None


class ResultsAnswer(BaseModel):
    """One verdict for each outcome, in their order."""

    verdicts: list[OutcomeVerdict]
