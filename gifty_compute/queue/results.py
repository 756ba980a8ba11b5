"""The results of a batch in the order of its submit, a page at a time; nothing is held between two pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from gifty_compute.errors import Conflict
from gifty_compute.queue.database import Database
from gifty_compute.queue.rows import vectors_of
from gifty_compute.queue.sight import Sight
from gifty_compute.wire.vectors import Vectors

__all__ = ["BatchResults", "Pages", "Result"]

_ROWS_A_PAGE = 500
# A page in memory is about this and its JSON; the largest single result is above it and comes alone.
_BYTES_A_PAGE = 4 * 2**20


@dataclass(frozen=True)
class Result:
    """One task's: `result` without its vectors, and these beside it where it has any."""

    position: int
    id: UUID
    task_type: str
    status: str
    model: str | None
    space: str | None
    result: dict[str, Any] | None
    vectors: Vectors | None
    error: str | None
    metadata: dict[str, Any] | None


Pages = Iterator[list[Result]]


class BatchResults:
    """Reads results as they are when their page is read, of a batch that has ended or not."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def pages(self, sight: Sight, batch_id: UUID, *, first: int = 0) -> Pages:
        """All pages from this position on, each a statement of its own: a slow reader holds no snapshot.

        Of another client's batch there are none.
        """
        after = self._before(sight, batch_id, first) if first else 0
        while after is not None and (rows := self._page(sight, batch_id, after=after)):
            yield [_result_of(row) for row in rows]
            after = rows[-1]["seq"]

    def _before(self, sight: Sight, batch_id: UUID, position: int) -> int | None:
        """The seq before that of this position; None beyond the last."""
        row = self._db.row("seq_of_position", clients=sight.names, batch_id=str(batch_id), position=position)
        return None if row is None else int(row["seq"]) - 1

    def _page(self, sight: Sight, batch_id: UUID, *, after: int) -> list[dict[str, Any]]:
        return self._db.rows(
            "results",
            clients=sight.names,
            batch_id=str(batch_id),
            after=after,
            limit=_ROWS_A_PAGE,
            most_bytes=_BYTES_A_PAGE,
        )

    def shape(self, sight: Sight, batch_id: UUID) -> tuple[int, int]:
        """Rows and dimension of all vectors of a batch as one matrix. Raises Conflict where they are none."""
        [row] = self._db.rows("vectors_of_batch", clients=sight.names, batch_id=str(batch_id))
        if row["unfinished"]:
            reason = f"{row['unfinished']} of its {row['tasks']} tasks have no result"
        elif row["without"] or not row["tasks"]:
            reason = f"{row['without']} of its {row['tasks']} tasks are no embeddings"
        elif len(row["spaces"]) > 1 or len(row["dims"]) > 1:
            reason = f"they are of several spaces: {', '.join(map(str, row['spaces']))}"
        else:
            return int(row["rows"]), int(row["dims"][0])
        raise Conflict(f"the vectors of batch {batch_id} are not one matrix: {reason}")


def _result_of(row: dict[str, Any]) -> Result:
    return Result(
        position=row["position"],
        id=UUID(str(row["id"])),
        task_type=row["task_type"],
        status=row["status"],
        model=row["model"],
        space=row["space"],
        result=row["result"],
        vectors=None if row["dtype"] is None else vectors_of(row),
        error=row["error"],
        metadata=row["metadata"],
    )
