"""The one verb of every worker: claim tasks, do each under a heartbeat, report how it ended.

```
source.claim ──▶ for each task: performer(task) ──▶ source.complete | source.fail
                 heartbeat: source.extend at a third of the lease
                 stop asked for: source.release what has not begun
```
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol
from uuid import UUID

from gifty_compute.backoff import Backoff
from gifty_compute.errors import Conflict, GiftyComputeError, Unavailable
from gifty_compute.wire.task import Claimed, Extension, Held, Holder, ReleaseReason, Task, Want

__all__ = ["Performer", "TaskSource", "Tools", "Verdict", "perform"]

log = logging.getLogger(__name__)

_LONGEST_PAUSE_WHILE_DRAINING = 1.0

Performer = Callable[[Task], dict[str, Any]]
"""Does the work of one task and gives its raw result; raises when it cannot."""


class TaskSource(Protocol):
    """Where a worker's tasks come from: the five verbs, over SQL or over HTTP.

    Each raises GiftyComputeError; `retryable` says whether the same call may succeed later.
    """

    def claim(self, holder: Holder, want: Want) -> Claimed:
        """Takes ready tasks for this holder, highest priority first; none is an answer too."""
        ...

    def extend(self, holder: Holder, held: list[Held], *, exhaustive: bool = False) -> Extension:
        """Renews each lease by its own length; `exhaustive` says that the session holds nothing else."""
        ...

    def complete(self, holder: Holder, task: Task, result: dict[str, Any]) -> Task:
        """Stores a result; the first valid one wins. Raises TaskFinished, LeaseLost, InvalidResult."""
        ...

    def complete_many(
        self, holder: Holder, outcomes: list[tuple[Task, dict[str, Any]]]
    ) -> list[GiftyComputeError | None]:
        """The same for several different tasks in one call: for each None, or why it was refused."""
        ...

    def fail(self, holder: Holder, task: Task, error: str, *, retryable: bool = True) -> Task:
        """Counts a failure against the task. Raises LeaseLost when it is held under another attempt."""
        ...

    def release(self, holder: Holder, held: list[Held], reason: ReleaseReason = "drain") -> list[UUID]:
        """Gives tasks back unharmed, pending again at once; answers with those that were still held."""
        ...


@dataclass(frozen=True)
class Verdict:
    """How the tasks of one claim ended, in counts: never in data."""

    done: int = 0
    failed: int = 0
    lost: int = 0
    """Finished or claimed by somebody else meanwhile."""
    released: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.done + other.done,
            self.failed + other.failed,
            self.lost + other.lost,
            self.released + other.released,
        )

    @property
    def claimed(self) -> int:
        return self.done + self.failed + self.lost + self.released

    def __str__(self) -> str:
        """
        >>> str(Verdict(done=20, lost=3))
        'done 20, taken elsewhere 3'
        """
        words = {
            "done": self.done,
            "failed": self.failed,
            "taken elsewhere": self.lost,
            "released": self.released,
        }
        return ", ".join(f"{word} {n}" for word, n in words.items() if n or word == "done")


@dataclass(frozen=True)
class Tools:
    """What a worker passes in: when to stop, and how to wait for a source that does not answer."""

    stop: threading.Event
    rng: Random
    patience: Backoff = field(default_factory=lambda: Backoff(base=0.2, cap=10.0))
    """Between tries to report an outcome."""
    tries: int = 12


def perform(source: TaskSource, holder: Holder, want: Want, performer: Performer, tools: Tools) -> Verdict:
    """Claims once and does all that was claimed.

    A failure of the performer is the task's; a source that cannot be reached is nobody's: the outcome is
    reported again and again within the worker's patience, and after that the lease runs out and somebody
    else does the task. Raises GiftyComputeError only when the claim itself fails.
    """
    claimed = source.claim(holder, want)
    if not claimed.tasks:
        return Verdict()
    verdict = Verdict()
    with _Heartbeat(source, holder, claimed) as heartbeat:
        for position, task in enumerate(claimed.tasks):
            if tools.stop.is_set():
                rest = claimed.tasks[position:]
                ours = [one for one in rest if not heartbeat.gone(one.id)]
                return verdict + Verdict(lost=len(rest) - len(ours)) + _give_back(source, holder, ours)
            if heartbeat.gone(task.id):
                verdict += Verdict(lost=1)
                continue
            verdict += _one(source, holder, task, performer, tools)
            heartbeat.forget(task.id)
    return verdict


def _one(source: TaskSource, holder: Holder, task: Task, performer: Performer, tools: Tools) -> Verdict:
    try:
        result = performer(task)
    except Exception as error:  # noqa: BLE001  # the boundary of foreign code: whatever it raises is the task's
        log.warning("task %s: attempt %d failed: %s", task.id, task.attempt, type(error).__name__)
        return _report_failure(source, holder, task, error, tools)
    try:
        _insist(lambda: source.complete(holder, task, result), tools)
    except Conflict:
        return Verdict(lost=1)
    except GiftyComputeError as error:
        if error.retryable:
            log.error("task %s: result not delivered, its lease will run out: %s", task.id, error)
            return Verdict(lost=1)
        return _report_failure(source, holder, task, error, tools)
    return Verdict(done=1)


def _report_failure(
    source: TaskSource, holder: Holder, task: Task, error: Exception, tools: Tools
) -> Verdict:
    said = f"{type(error).__name__}: {error}"[:2000]
    # No store takes NUL or a lone surrogate, and the failure must be reported whatever it says.
    message = said.replace("\x00", "?").encode(errors="replace").decode()
    try:
        _insist(lambda: source.fail(holder, task, message), tools)
    except GiftyComputeError as unreported:
        log.warning("task %s: failure not reported: %s", task.id, unreported)
        return Verdict(lost=1)
    return Verdict(failed=1)


def _insist(report: Callable[[], object], tools: Tools) -> None:
    """Reports until it is taken or refused; raises the last error when patience ends."""
    for attempt in range(1, tools.tries + 1):
        try:
            report()
        except GiftyComputeError as error:
            if not error.retryable or attempt == tools.tries:
                raise
            threading.Event().wait(_pause(error, attempt, tools))
        else:
            return


def _pause(error: GiftyComputeError, attempt: int, tools: Tools) -> float:
    """Seconds until the next try: what the source asked for, or backoff.

    A worker that drains still owes its last result, but somebody waits for its end.
    """
    asked = error.retry_after if isinstance(error, Unavailable) else 0.0
    pause = max(asked, tools.patience.delay(attempt, tools.rng))
    return min(pause, _LONGEST_PAUSE_WHILE_DRAINING) if tools.stop.is_set() else pause


def _give_back(source: TaskSource, holder: Holder, tasks: list[Task]) -> Verdict:
    try:
        given = source.release(holder, [Held(id=task.id, attempt=task.attempt) for task in tasks])
    except GiftyComputeError as error:
        log.warning("%d tasks not released, their leases will run out: %s", len(tasks), error)
        return Verdict(lost=len(tasks))
    return Verdict(released=len(given), lost=len(tasks) - len(given))


class _Heartbeat:
    """Renews the leases of a claim from a thread of its own, and notes what is no longer ours."""

    def __init__(self, source: TaskSource, holder: Holder, claimed: Claimed) -> None:
        self._source, self._holder = source, holder
        self._held = {task.id: Held(id=task.id, attempt=task.attempt) for task in claimed.tasks}
        self._gone: set[UUID] = set()
        self._period = claimed.lease_seconds / 3
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def gone(self, task_id: UUID) -> bool:
        with self._guard:
            return task_id in self._gone

    def forget(self, task_id: UUID) -> None:
        with self._guard:
            self._held.pop(task_id, None)

    def _beat(self) -> None:
        while not self._over.wait(self._period):
            with self._guard:
                held = list(self._held.values())
            try:
                extension = self._source.extend(self._holder, held) if held else None
            except GiftyComputeError as error:
                # A lease outlives two missed beats; the next one may get through.
                log.warning("heartbeat for %d tasks failed: %s", len(held), error)
                continue
            if extension is not None:
                with self._guard:
                    self._gone |= {*extension.lost, *extension.cancelled}
