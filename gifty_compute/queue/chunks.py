"""The long work on a batch, in chunks: what is left to cancel or to retry. It may stop after any of them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol
from uuid import UUID

__all__ = ["CHUNK", "Rows", "cancel_rest", "retry_rest"]

CHUNK = 1000


class Rows(Protocol):
    """Runs a named statement, on whichever connection."""

    def __call__(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]: ...


def cancel_rest(rows: Rows, batch_id: UUID, *, chunks: int) -> int:
    """Cancels what is left of a batch that shall end, in so many chunks at most; how many tasks it was."""
    cancelled = 0
    for _ in range(chunks):
        some = rows("cancel_some", id=str(batch_id), limit=CHUNK)
        cancelled += len(some)
        if len(some) < CHUNK:
            break
    return cancelled


def retry_rest(rows: Rows, batch_id: UUID, *, chunks: int) -> Counter[tuple[str, str]]:
    """Makes pending what is left to retry, in so many chunks at most; how many tasks by type and model."""
    ready: Counter[tuple[str, str]] = Counter()
    for _ in range(chunks):
        some = rows("retry_some", id=str(batch_id), limit=CHUNK)
        ready.update((row["task_type"], row["model"]) for row in some)
        if len(some) < CHUNK:
            rows("retried", id=str(batch_id))
            break
    return ready
