"""Worker tokens: what one may do and how long, and the bodies of the calls around them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gifty_compute.wire.body import Body, Many
from gifty_compute.wire.scale import Scale
from gifty_compute.wire.text import Text

__all__ = ["MintRequest", "Minted", "Trust", "WorkerToken", "WorkerTokenList"]

Trust = Literal["trusted", "untrusted"]
TokenName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class WorkerToken(BaseModel):
    """A worker's own credential, without the secret itself, which nobody keeps.

    `id` is what tasks and their history name as the credential.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    task_types: tuple[str, ...] = Field(description="What it may claim; empty: all.")
    trust: Trust
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    quarantined_at: datetime | None
    verified: int = Field(description="Results of an untrusted one that were done again and were the same.")
    valid_in_a_row: int = Field(description="The same, since the last that was not.")
    score_scale: Scale | None = Field(
        default=None, description="Of the scores of an older notebook that has this token."
    )

    def in_scope(self, task_types: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the types that it may claim; all that it may where none are named."""
        if not self.task_types or not task_types:
            return task_types or self.task_types
        return tuple(one for one in task_types if one in self.task_types)


class MintRequest(Body):
    """The body of POST /ops/tokens."""

    name: TokenName
    task_types: Many[Text] = Field(default=[], max_length=100, description="Empty: all.")
    trust: Trust = "trusted"
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)
    score_scale: Scale | None = Field(
        default=None, description="Of the scores of an older notebook that gets this token."
    )


class Minted(WorkerToken):
    """The token with its secret, which is shown this once."""

    token: str


class WorkerTokenList(BaseModel):
    """All worker tokens, newest first."""

    tokens: list[WorkerToken]
