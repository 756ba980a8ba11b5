"""Leases of tasks: claimed, renewed, ended, given back. A lease's attempt is its fence."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from gifty_compute.backoff import Backoff
from gifty_compute.errors import GiftyComputeError, LeaseLost, NotFound, TaskFinished
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.outcome import (
    Checked,
    checked,
    completion,
    failure_is_known,
    same_outcome,
    was_handed,
)
from gifty_compute.queue.rows import stored_row, task_of
from gifty_compute.wire.task import (
    ENDS,
    Claimed,
    Extension,
    Held,
    Holder,
    ReleaseReason,
    Task,
    Want,
)

__all__ = ["SILENCE_SECONDS", "LeaseStore"]

_RETRY_BACKOFF = Backoff(base=2.0, cap=600.0)
# Three passes of the slowest maintain. Nobody's lease is held against him for a longer silence of ours.
SILENCE_SECONDS = 30.0
_SWEPT_BY_A_CLAIM = 100
# Each held result of a stranger costs a referee; as many again may be in work while those wait for theirs.
_HELD_AND_IN_WORK = 2
_COUNTED_READY = 64
_LOOKED_THROUGH = 1000
# About 6 MB of Russian text: the answer to a claim stays readable, whatever its rows hold.
_MOST_TOKENS_A_CLAIM = 1_000_000


class LeaseStore:
    """The workers' side of tasks. `logic` gives the Logic in force; it decides offers and lease lengths."""

    def __init__(self, database: Database, logic: Callable[[], Logic], rng: Random) -> None:
        self._db, self._logic, self._rng = database, logic, rng

    def claim(self, holder: Holder, want: Want) -> Claimed:
        """Takes ready tasks for this holder. A repeated claim_id gets what is left of the first claim."""
        logic = self._logic()
        leases = logic.file.leases
        seconds = want.lease_seconds or (leases.bare_seconds if want.bare else leases.seconds)
        pairs = [] if want.ids else logic.offered(want.task_types, want.models, want.spaces)
        asked = {
            "task_types": [pair[0] for pair in pairs],
            "models": [pair[1] for pair in pairs],
            "spaces": list(want.spaces) or None,
            "ids": [str(one) for one in want.ids],
            "scope": list(want.task_types),
            "dice": str(self._rng.random()),
            "limit": want.limit,
            "max_tokens": want.max_tokens or _MOST_TOKENS_A_CLAIM,
            "most_held": min(leases.most_held, _most_unverified(holder, logic)),
            "trusted": holder.trusted,
            "strict": holder.strict,
            "lease_seconds": seconds,
            "bare": want.bare,
            "session": holder.session,
            "claim_id": str(want.claim_id) if want.claim_id else None,
            **_who(holder),
        }
        rows = self._db.rows("claim", **asked)
        if not rows and want.claim_id is not None:
            rows = self._db.rows("claimed_before", claim_id=str(want.claim_id), **_who(holder))
        if not rows and self._sweep():
            rows = self._db.rows("claim", **asked)
        return Claimed(tasks=_in_order(rows), lease_seconds=seconds)

    def offered(self, want: Want) -> list[tuple[str, str]]:
        """The (task type, model) pairs whose tasks may be what is wanted; none where tasks are named."""
        logic = self._logic()
        pairs = [] if want.ids else logic.offered(want.task_types, want.models, want.spaces)
        return [pair for pair in pairs if not want.spaces or logic.space_name(*pair) in want.spaces]

    def ready(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How many tasks of each of these pairs could be claimed now; no more than 64 are counted."""
        asked = {"task_types": [pair[0] for pair in pairs], "models": [pair[1] for pair in pairs]}
        rows = self._db.rows("ready", **asked, enough=_COUNTED_READY)
        return {(row["task_type"], row["model"]): row["ready"] for row in rows}

    def ready_scaled(self, limit: int) -> tuple[UUID, ...]:
        """Of the first score tasks that are ready those that state the scale of their scores."""
        asked = {"model": self._logic().model("score", None).name, "most": _LOOKED_THROUGH, "limit": limit}
        return tuple(UUID(str(row["id"])) for row in self._db.rows("ready_scaled", **asked))

    def _sweep(self) -> bool:
        """Whether leases had run out that maintain has not come to yet."""
        swept = self._db.rows("sweep", limit=_SWEPT_BY_A_CLAIM, silence_seconds=SILENCE_SECONDS)
        return bool(swept)

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        """Renews each lease by its own length, unless the task is held by another credential or attempt.

        `exhaustive` says that the session holds nothing else: see `miss`.
        """
        progress = [one.progress for one in held]
        rows = self._db.rows("extend", credential=holder.credential, progress=progress, **_held(held))
        if exhaustive:
            self.miss(holder, held)
        gone = [row for row in rows if not row["ours"]]
        cancelled = tuple(UUID(str(row["id"])) for row in gone if row["status"] == "cancelled")
        lost = tuple(UUID(str(row["id"])) for row in gone if row["status"] != "cancelled")
        return Extension(lost=lost, cancelled=cancelled)

    def miss(self, holder: Holder, held: list[Held]) -> list[UUID]:
        """After `extend` of all that a session holds: what it does not know of goes back the second time."""
        ids = [str(one.id) for one in held]
        rows = self._db.rows("miss", session=holder.session, ids=ids, **_who(holder))
        return [UUID(str(row["id"])) for row in rows if row["status"] == "pending"]

    def complete(self, holder: Holder, task: Task, result: dict[str, Any]) -> Task:
        """Stores the first valid result of any attempt that was handed out; `task.attempt` 0 is "unsaid".

        Raises InvalidResult and leaves the task as it is; TaskFinished for another outcome than stored.
        """
        outcome = checked(self._logic(), task, result)
        if self._complete(holder, [outcome]):
            # Without its vectors, which the result has.
            [row] = self._db.rows("find", ids=[str(task.id)])
            return task_of(row).model_copy(update={"result": outcome.result})
        stored = self._not_taken(holder, outcome)
        if isinstance(stored, GiftyComputeError):
            raise stored
        return stored

    def complete_many(
        self, holder: Holder, outcomes: list[tuple[Task, dict[str, Any]]]
    ) -> list[GiftyComputeError | None]:
        """The same for several tasks in one statement: for each None, or why it was refused.

        The ids must differ: of two results for one task, each of them could be the first.
        """
        logic = self._logic()
        judged = [_judged(logic, task, result) for task, result in outcomes]
        good = [one for one in judged if isinstance(one, Checked)]
        taken = self._complete(holder, good) if good else set()
        refused: list[GiftyComputeError | None] = []
        for one in judged:
            if isinstance(one, GiftyComputeError):
                refused.append(one)
                continue
            stored = None if one.task.id in taken else self._not_taken(holder, one)
            refused.append(stored if isinstance(stored, GiftyComputeError) else None)
        return refused

    def _complete(self, holder: Holder, good: list[Checked]) -> set[UUID]:
        """The ids of the tasks that these outcomes ended."""
        rows = self._db.rows(
            "complete",
            worker_id=holder.worker_id or None,
            credential=holder.credential,
            strict=holder.strict,
            **completion(good),
        )
        return {row["id"] for row in rows}

    def _not_taken(self, holder: Holder, outcome: Checked) -> Task | GiftyComputeError:
        """The stored task, if this outcome is its outcome already; else why it was refused."""
        task = outcome.task
        try:
            found = stored_row(self._db, task.id)
        except NotFound as error:
            return error
        present = task_of(found)
        handed = was_handed(found, holder, task.attempt)
        if handed and present.status == "completed" and same_outcome(present.result or {}, outcome.result):
            return present
        if present.status in ENDS:
            return TaskFinished(f"task {task.id} is {present.status} already, with another outcome")
        return LeaseLost(f"task {task.id}: attempt {task.attempt or 'without number'} was never handed out")

    def fail(self, holder: Holder, task: Task, error: str, *, retryable: bool = True) -> Task:
        """Counts a failure of the present attempt: pending again after a backoff, or failed for good."""
        row = self._db.row(
            "fail",
            id=str(task.id),
            attempt=task.attempt or None,
            credential=holder.credential,
            strict=holder.strict,
            trusted=holder.trusted,
            error=error,
            retryable=retryable,
            backoff_base=_RETRY_BACKOFF.base,
            backoff_cap=_RETRY_BACKOFF.cap,
            jitter=self._rng.random(),
        )
        if row is not None:
            return task_of(row)
        found = stored_row(self._db, task.id)
        present = task_of(found)
        if failure_is_known(found, holder, task.attempt):
            return present
        if present.status in ENDS:
            raise TaskFinished(f"task {task.id} is {present.status} already")
        named = f"attempt {task.attempt}" if task.attempt else "a failure without attempt"
        raise LeaseLost(f"task {task.id}: {named} does not hold it; the present attempt is {present.attempt}")

    def release(self, holder: Holder, held: list[Held], reason: ReleaseReason = "drain") -> list[UUID]:
        """Gives tasks back unharmed and says which; what is no longer this holder's is left alone."""
        rows = self._db.rows("release", credential=holder.credential, ending=reason, **_held(held))
        return [UUID(str(row["id"])) for row in rows]


def _judged(logic: Logic, task: Task, result: dict[str, Any]) -> Checked | GiftyComputeError:
    try:
        return checked(logic, task, result)
    except GiftyComputeError as refused:
        return refused


def _most_unverified(holder: Holder, logic: Logic) -> float:
    """How many tasks it may have, in work or held, of which nothing has been verified."""
    bounded = holder.newcomer and not holder.trusted
    return _HELD_AND_IN_WORK * logic.file.trust.held if bounded else math.inf


def _who(holder: Holder) -> dict[str, str]:
    return {"credential": holder.credential, "worker_id": holder.worker_id}


def _held(held: list[Held]) -> dict[str, list[Any]]:
    return {"ids": [str(one.id) for one in held], "attempts": [one.attempt for one in held]}


def _in_order(rows: list[dict[str, Any]]) -> tuple[Task, ...]:
    return tuple(task_of(row) for row in sorted(rows, key=lambda row: (row["rank"], row["seq"])))
