"""Tasks as their client sees them: the fields of the contract, and what a pending task waits for."""

from __future__ import annotations

from typing import Any

from api.answers import task_json
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.samples import Sample
from gifty_compute.queue.waiting import NOT_SAMPLED, waiting_for
from gifty_compute.wire.task import Task

__all__ = ["task_view"]


def task_view(core: Core, task: Task, encoding_format: str = "float") -> dict[str, Any]:
    """The fields of a TaskView. It does not fail: what it shows may have been committed a moment ago."""
    fields = task_json(task, encoding_format)
    fields["waiting_for"] = _reason(core, task) if task.status == "pending" else None
    return fields


def _reason(core: Core, task: Task) -> str | None:
    sample = _newest(core)
    found = waiting_for(task, sample, core.clock.now())
    return NOT_SAMPLED if found is None and core.samples.is_silent(sample) else found


def _newest(core: Core) -> Sample:
    try:
        return core.samples.newest()
    except StoreUnavailable:
        # A sample that is infinitely old says nothing.
        return Sample(float("inf"))
