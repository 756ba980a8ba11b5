"""The life of a task as one state machine: which verb leads from which status to which, and what it changes.

Pure: the SQL statements of the same names do this to rows, and a test walks both side by side. The drawing in
docs/architecture.md is made by `drawing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gifty_compute.errors import Conflict
from gifty_compute.wire.task import Status

__all__ = ["VERBS", "State", "Verb", "drawing"]


@dataclass(frozen=True)
class State:
    """What of a task decides what may happen to it next."""

    status: Status = "pending"
    attempt: int = 0
    failures: int = 0
    max_attempts: int = 5
    generation: int = 1
    suspect: bool = False
    in_company: bool = False
    delayed: bool = False


@dataclass(frozen=True)
class Verb:
    """One way for a task to change: from these statuses, on this condition, to one of those."""

    name: str
    before: tuple[Status, ...]
    after: tuple[Status, ...]
    condition: str
    change: Callable[[State], State]

    def __call__(self, state: State) -> State:
        """The state afterwards. Raises Conflict where the verb does not apply.

        >>> VERBS["claim"](State()).attempt
        1
        """
        if state.status not in self.before:
            raise Conflict(f"{self.name} does not apply to a task that is {state.status}")
        return self.change(state)


def _claim(state: State) -> State:
    if state.delayed:
        raise Conflict("a delayed task is not handed out before its time")
    return replace(state, status="processing", attempt=state.attempt + 1, in_company=False)


def _claim_in_company(state: State) -> State:
    if state.suspect:
        raise Conflict("a suspect is handed out alone")
    return replace(_claim(state), in_company=True)


def _counted(state: State, *, retryable: bool, delayed: bool) -> State:
    failures = state.failures + 1
    if retryable and failures < state.max_attempts:
        return replace(state, status="pending", failures=failures, delayed=delayed)
    return replace(state, status="failed", failures=failures, delayed=False)


def _expire(state: State) -> State:
    if state.in_company:
        return replace(state, status="pending", suspect=True)
    return _counted(state, retryable=True, delayed=False)


def _retry(state: State) -> State:
    return replace(state, status="pending", failures=0, generation=state.generation + 1)


_LIVE: tuple[Status, ...] = ("pending", "processing")

VERBS = {
    verb.name: verb
    for verb in (
        Verb("claim", ("pending",), ("processing",), "ready, and taken alone", _claim),
        Verb(
            "claim in company",
            ("pending",),
            ("processing",),
            "ready, and no suspect",
            _claim_in_company,
        ),
        Verb("extend", ("processing",), ("processing",), "the same credential and attempt", lambda s: s),
        Verb(
            "complete",
            _LIVE,
            ("completed",),
            "the attempt was handed out, or none was said and there was one",
            lambda s: replace(s, status="completed", suspect=False, delayed=False),
        ),
        Verb(
            "fail",
            ("processing",),
            ("pending", "failed"),
            "the present attempt; without attempt: a bare claim of the same credential",
            lambda s: _counted(s, retryable=True, delayed=True),
        ),
        Verb(
            "fail for good",
            ("processing",),
            ("failed",),
            "as fail, reported as not retryable",
            lambda s: _counted(s, retryable=False, delayed=False),
        ),
        Verb(
            "release",
            ("processing",),
            ("pending",),
            "the same credential and attempt, or missed by two heartbeats in a row",
            lambda s: replace(s, status="pending"),
        ),
        Verb("sweep", ("processing",), ("pending", "failed"), "the lease has run out", _expire),
        Verb(
            "promote",
            ("pending",),
            ("pending",),
            "`available_at` has come",
            lambda s: replace(s, delayed=False),
        ),
        Verb(
            "cancel",
            _LIVE,
            ("cancelled",),
            "the caller asks for it",
            lambda s: replace(s, status="cancelled", suspect=False, delayed=False),
        ),
        Verb("retry", ("failed", "cancelled"), ("pending",), "by hand: a new generation", _retry),
    )
}


def drawing() -> str:
    """The state machine as a table in Markdown."""
    lines = ["| verb | from | to | if |", "|---|---|---|---|"]
    for verb in VERBS.values():
        before, after = " or ".join(verb.before), " or ".join(verb.after)
        lines.append(f"| {verb.name} | {before} | {after} | {verb.condition} |")
    return "\n".join(lines)
