"""The judgement of a result: whether it fits its task, how it is laid down, whether it is the stored one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gifty_compute.arrays import np
from gifty_compute.errors import TaskFinished
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.rows import result_columns
from gifty_compute.wire import vectors
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Holder, Task

__all__ = ["Checked", "checked", "completion", "failure_is_known", "same_outcome", "was_handed"]


@dataclass(frozen=True)
class Checked:
    """A result that has passed its type's check. `task.attempt` 0 means that the sender named none."""

    task: Task
    result: dict[str, Any]
    model: str
    space: str | None


def checked(logic: Logic, task: Task, result: dict[str, Any]) -> Checked:
    """The result in its stored form. Raises InvalidResult, and TaskFinished where none is wanted any more."""
    if task.status in ("failed", "cancelled"):
        raise TaskFinished(f"task {task.id} is {task.status} already")
    logic.require_type(task.task_type)
    declared = logic.declared(task.task_type)
    if declared is not None:
        model = task.model or logic.model_of_declared(task.task_type)
        return Checked(task, declared.check_result(result), model, None)
    # An adopted task that was in work has no model yet; one that was submitted has all of this.
    payload = logic.place(task.task_type, task.payload)
    model = str(task.model or payload["model"])
    stored = KINDS[task.task_type].check(payload, result, logic.expected(task.task_type, model))
    return Checked(task, stored, model, logic.space_name(task.task_type, model))


def completion(outcomes: list[Checked]) -> dict[str, list[Any]]:
    """The outcomes as parameters of `complete`, an array a column."""
    columns = dict(zip(_COLUMNS, map(list, zip(*map(_laid_down, outcomes), strict=True)), strict=True))
    # unnest fills a shorter array with NULL: a column of nothing else need not be sent.
    return {name: values if any(v is not None for v in values) else [] for name, values in columns.items()}


_COLUMNS = ("ids", "attempts", "models", "spaces", "results", "dtypes", "rows", "dims", "data")


def _laid_down(outcome: Checked) -> tuple[Any, ...]:
    task, laid = outcome.task, result_columns(outcome.result)
    vectors = (laid["dtype"], laid["rows"], laid["dim"], laid["data"])
    return str(task.id), task.attempt or None, outcome.model, outcome.space, laid["result"], *vectors


def same_outcome(stored: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Whether a result is the stored one again: equal in the stored dtype, or near enough to be it."""
    left, right = stored.get("embeddings"), sent.get("embeddings")
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return vectors.same(left, right.astype(left.dtype))
    return stored == sent


def was_handed(row: dict[str, Any], holder: Holder, attempt: int) -> bool:
    """Whether this holder may speak of that attempt, by the row and its history; 0 means "unsaid".

    Who shares a token is believed about each attempt that there was.
    """
    if not holder.strict:
        return bool(row["attempt"] >= max(attempt, 1))
    held = [(entry["attempt"], entry["credential"]) for entry in row["history"] or ()]
    return (attempt, holder.credential) in [(row["attempt"], row["credential"]), *held]


def failure_is_known(row: dict[str, Any], holder: Holder, attempt: int) -> bool:
    """Whether this very failure was told before: a report that is repeated since its answer was lost."""
    if row["status"] in ("completed", "cancelled") or not was_handed(row, holder, attempt):
        return False
    told = [
        entry["attempt"]
        for entry in row["history"] or ()
        if entry["end"] == "failed" and entry["credential"] == holder.credential
    ]
    return (attempt or row["attempt"]) in told
