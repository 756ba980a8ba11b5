"""The two seams of a worker: where its tasks come from, and who does them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol
from uuid import UUID

from gifty_compute.errors import GiftyComputeError
from gifty_compute.wire.task import Claimed, Extension, Held, Holder, Outcome, ReleaseReason, Task, Want

__all__ = ["Performer", "TaskSource", "Wanted"]

Wanted = Callable[[], bool]
"""Whether anybody still waits for the task: false once its lease is lost, or it was cancelled."""

Performer = Callable[[Task, Wanted], "Future[dict[str, Any]]"]
"""Begins the work of one task and gives its raw result to come; returns at once.

A future that can still be cancelled is work that was not begun: a drain gives its task back. A performer that
finds a task unwanted may cancel the future by itself.
"""


class TaskSource(Protocol):
    """Where a worker's tasks come from: its four verbs, over SQL or over HTTP.

    Each raises GiftyComputeError; `retryable` says whether the same call may succeed later. Calls come from
    several threads.
    """

    def claim(self, holder: Holder, want: Want) -> Claimed:
        """Takes ready tasks for this holder, highest priority first; none is an answer too."""
        ...

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        """Renews each lease by its own length; `exhaustive` says that the session holds nothing else."""
        ...

    def report(self, holder: Holder, outcomes: Sequence[Outcome]) -> list[GiftyComputeError | None]:
        """Tells how several different tasks ended: for each None, or why it was refused.

        The first valid result of a task wins; a failure counts while its attempt holds the task. Refusals are
        NotFound, InvalidResult, TaskFinished, LeaseLost and TooLarge. What is raised is true of all of them,
        and all of them may be reported again.
        """
        ...

    def release(self, holder: Holder, held: list[Held], reason: ReleaseReason = "drain") -> list[UUID]:
        """Gives tasks back unharmed, pending again at once; answers with those that were still held."""
        ...
