"""Why work waits: the reason of one pending task, and what an operator must mend."""

from __future__ import annotations

from datetime import UTC, datetime

from gifty_compute.queue.samples import ENOUGH, QueueSample, Sample
from gifty_compute.wire.task import Task

__all__ = ["GRACE_SECONDS", "NOT_SAMPLED", "not_placed", "not_sampled", "unserved", "waiting_for"]

GRACE_SECONDS = 15.0
"""Work without a worker is no alarm before: a worker that starts again is back by then."""
NOT_SAMPLED = "unknown: the queue is not sampled"
"""What a task waits for where `maintain` is silent."""
# `maintain` places 500 rows a second; a flood of inserts is no fault.
_PLACING_SECONDS = 300.0
_MOST_NAMED = 10
_LONGEST_NAME = 100


def waiting_for(task: Task, sample: Sample, now: datetime) -> str | None:
    """What a pending task waits for; None where it is only its turn, and for a task that is not pending.

    Without a fresh sample only what the row itself says is known.
    """
    if task.status != "pending":
        return None
    if task.available_at is not None and task.available_at > now:
        return f"backoff until {task.available_at.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    if task.model is None:
        return "placing"
    if sample.has_no_worker(task.task_type, task.model):
        return f"no worker for {_named(task.task_type, task.model)}"
    return None


def unserved(sample: Sample) -> list[str]:
    """A reason for each queue whose work waits and has no worker, the oldest first, ten at most.

    A row without a model waits for `maintain` and not for a worker: see `not_placed`.
    """
    found = [one for one in sample.queues if one.model and one.ready and not one.workers and _is_old(one)]
    found.sort(key=lambda one: -one.oldest_seconds)
    reasons = [
        f"no worker for {_named(one.task_type, one.model)} ({_counted(one.ready)} wait)"
        for one in found[:_MOST_NAMED]
    ]
    if len(found) > _MOST_NAMED:
        reasons.append(f"no worker for {len(found) - _MOST_NAMED} more")
    return reasons


def not_placed(sample: Sample) -> list[str]:
    """A reason for each task type whose rows, inserted by SQL, have had no model for minutes."""
    return [
        f"{_counted(one.ready)} rows of {_named(one.task_type)} have no model for {one.oldest_seconds:.0f} s"
        for one in sample.queues
        if not one.model and one.oldest_seconds >= _PLACING_SECONDS
    ][:_MOST_NAMED]


def not_sampled(sample: Sample) -> str:
    """The reason where samples are missing or old."""
    if sample.age_seconds == float("inf"):
        return "the queue was never sampled: maintain does not run"
    return f"the queue was not sampled for {sample.age_seconds:.0f} s: maintain does not run, or hangs"


def _is_old(one: QueueSample) -> bool:
    return one.oldest_seconds >= GRACE_SECONDS


def _named(*names: str) -> str:
    return "/".join(names)[:_LONGEST_NAME]


def _counted(number: int) -> str:
    """
    >>> _counted(51), _counted(100_001)
    ('51', '100000+')
    """
    return str(number) if number < ENOUGH else f"{ENOUGH - 1}+"
