"""Workers' own tokens: minted, looked up by their hash at each request, revoked, listed."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any
from uuid import UUID, uuid4

from gifty_compute.errors import Conflict, InvalidRequest, NotFound
from gifty_compute.queue.database import Database
from gifty_compute.wire.token import Minted, MintRequest, WorkerToken

__all__ = ["PREFIX", "WorkerTokens"]

PREFIX = "gwt_"
"""What every worker token begins with: one that leaks into a file or a log is known for what it is."""
_RANDOM_BYTES = 32
_FIELDS = tuple(WorkerToken.model_fields)


class WorkerTokens:
    """The table of worker tokens. Each method raises StoreUnavailable when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def mint(self, request: MintRequest, *, created_by: str) -> Minted:
        """A new token, whose secret exists nowhere but in what this returns.

        Raises Conflict for a name that is in use, InvalidRequest for strangers' work that cannot be verified.
        """
        if request.trust == "untrusted" and request.task_types != ["embedding"]:
            message = (
                "only embeddings can be done again and compared: an untrusted token is for embedding alone"
            )
            raise InvalidRequest(message, param="task_types")
        secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        row = self._db.row(
            "mint_token",
            id=str(uuid4()),
            name=request.name,
            hash=_hash(secret),
            task_types=request.task_types,
            trust=request.trust,
            created_by=created_by,
            expires_in_days=request.expires_in_days,
            score_scale=request.score_scale,
        )
        if row is None:
            raise Conflict(
                f"there is a worker token {request.name!r} already; revoke it, or use another name"
            )
        return Minted(**_fields(row), token=secret)

    def find(self, secret: str) -> WorkerToken | None:
        """The token of this secret, if it is neither revoked nor expired."""
        if not secret.startswith(PREFIX):
            return None
        row = self._db.row("find_token", hash=_hash(secret))
        return WorkerToken(**_fields(row)) if row is not None else None

    def list(self) -> list[WorkerToken]:
        """All tokens that there ever were, newest first."""
        return [WorkerToken(**_fields(row)) for row in self._db.rows("list_tokens")]

    def revoke(self, token_id: UUID) -> WorkerToken:
        """From the next request on the token is refused; its leases run out. Raises NotFound."""
        row = self._db.row("revoke_token", id=str(token_id))
        if row is None:
            raise NotFound(f"there is no worker token {token_id}")
        return WorkerToken(**_fields(row))


def _hash(secret: str) -> bytes:
    # The secret is 256 random bits: there is nothing that a slow hash would protect.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _FIELDS}
