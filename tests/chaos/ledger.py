"""The ledger: does each verb at the real queue and at the pure state machine, and compares the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import text

from gifty_compute.errors import Conflict, LeaseLost, TaskFinished
from gifty_compute.perform import TaskSource
from gifty_compute.queue.database import Database
from gifty_compute.queue.lifecycle import VERBS, State
from gifty_compute.queue.tasks import Origin, TaskStore
from gifty_compute.wire.task import ENDS, Held, Holder, Outcome, SubmitRequest, Task, Want
from tests.conftest import EVERY_CLIENT

MODEL = "multilingual-e5-small"


@dataclass(frozen=True)
class Handed:
    """A task as it was handed to somebody."""

    task: Task
    holder: Holder

    @property
    def held(self) -> Held:
        return Held(id=self.task.id, attempt=self.task.attempt)


@dataclass
class Ledger:
    """What must be true of every task, by the state machine; `check` compares it with the rows."""

    store: TaskStore
    database: Database
    states: dict[UUID, State] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    """The callback ids that must be there, and no others."""
    handed: list[Handed] = field(default_factory=list)
    failed: list[Held] = field(default_factory=list)
    """The attempts whose failure was taken."""

    def clear(self) -> None:
        """Empties the table: what others left there is not in this ledger."""
        self._sql("DELETE FROM compute_tasks")

    def submit(self, max_attempts: int = 5) -> UUID:
        request = SubmitRequest(
            task_type="embedding",
            payload={"texts": ["чайник"]},
            max_attempts=max_attempts,
            callback_url="https://backend.example/done",
        )
        task, _ = self.store.submit(request, Origin(client="shop"))
        self.states[task.id] = State(max_attempts=max_attempts)
        return task.id

    def claim(
        self, source: TaskSource, holder: Holder, limit: int, locked: UUID | None = None
    ) -> list[Handed]:
        want = Want(models=(MODEL,), limit=limit, claim_id=uuid4())
        tasks = source.claim(holder, want).tasks
        ready = [one for one in self._ready() if one != locked]
        suspects = [one for one in ready if self.states[one].suspect]
        assert len(tasks) == (1 if suspects else min(limit, len(ready))), "wrong number of tasks claimed"
        assert {task.id for task in tasks} <= set(suspects or ready), "claimed what was not ready"
        verb = VERBS["claim in company" if len(tasks) > 1 else "claim"]
        for task in tasks:
            self.states[task.id] = verb(self.states[task.id])
            assert task.attempt == self.states[task.id].attempt, "attempt is not the count of claims"
        new = [Handed(task, holder) for task in tasks]
        self.handed += new
        return new

    def extend(self, source: TaskSource, one: Handed) -> None:
        answer = source.extend(one.holder, [one.held])
        state = self.states[one.task.id]
        expected = ((), ()) if self._holds(one) else ((one.task.id,), ())
        if not self._holds(one) and state.status == "cancelled":
            expected = ((), (one.task.id,))
        assert (answer.lost, answer.cancelled) == expected

    def complete(self, source: TaskSource, one: Handed) -> None:
        refused = self._told(source, one, status="completed", result=vector())
        status = self.states[one.task.id].status
        if status in ("failed", "cancelled"):
            assert isinstance(refused, TaskFinished)
            return
        assert refused is None
        if status != "completed":
            self._apply("complete", one.task.id)

    def complete_what_was_never_handed_out(self, source: TaskSource, one: Handed) -> None:
        never = self.states[one.task.id].attempt + 1
        refused = self._told(source, one, attempt=never, status="completed", result=vector(2))
        assert isinstance(refused, Conflict)

    def fail(self, source: TaskSource, one: Handed, *, retryable: bool) -> None:
        holds = self._holds(one)
        refused = self._told(source, one, status="failed", error=uuid4().hex, retryable=retryable)
        if holds:
            assert refused is None
            self.failed.append(one.held)
            self._apply("fail" if retryable else "fail for good", one.task.id)
        elif refused is None:
            # The same report once more: this attempt must have failed before, and nothing changes.
            assert one.held in self.failed
        else:
            assert isinstance(refused, LeaseLost | TaskFinished)

    def release(self, source: TaskSource, one: Handed) -> None:
        given = source.release(one.holder, [one.held])
        assert given == ([one.task.id] if self._holds(one) else [])
        if given:
            self._apply("release", one.task.id)

    def expire(self, task_id: UUID) -> None:
        self._sql(
            "UPDATE compute_tasks SET lease_expires_at = now() - interval '1 s'"
            " WHERE id = :id AND status = 'processing'",
            id=str(task_id),
        )
        swept = self.database.rows("sweep", limit=100, silence_seconds=30)
        held = self.states[task_id].status == "processing"
        assert [UUID(str(row["id"])) for row in swept] == ([task_id] if held else [])
        if held:
            self._apply("sweep", task_id)

    def promote(self) -> None:
        self._sql("UPDATE compute_tasks SET available_at = now() WHERE available_at IS NOT NULL")
        self.database.rows("promote", limit=100)
        for task_id, state in self.states.items():
            if state.delayed:
                self._apply("promote", task_id)

    def cancel(self, task_id: UUID) -> None:
        refused = self._refused(lambda: self.store.cancel(EVERY_CLIENT, task_id))
        if self.states[task_id].status in ("completed", "failed"):
            assert isinstance(refused, TaskFinished)
        elif self.states[task_id].status != "cancelled":
            self._apply("cancel", task_id)

    def retry(self, task_id: UUID) -> None:
        refused = self._refused(lambda: self.store.retry(EVERY_CLIENT, task_id))
        if self.states[task_id].status in ("failed", "cancelled"):
            assert refused is None
            self._apply("retry", task_id)
        else:
            assert isinstance(refused, Conflict)

    def late(self) -> list[Handed]:
        """What was handed out and is no longer held so, of tasks whose end is not a result."""
        live = {one for one, state in self.states.items() if state.status != "completed"}
        return [one for one in self.handed if one.task.id in live and not self._holds(one)]

    def check(self) -> None:
        """The rows are what the state machine says, and every end has told its one callback."""
        rows = self._sql(
            "SELECT id, status, attempt, failures, max_attempts, generation, suspect, in_company,"
            " available_at IS NOT NULL AS delayed FROM compute_tasks"
        )
        found = {UUID(str(row.pop("id"))): row for row in rows}
        assert found.keys() == self.states.keys()
        for task_id, row in found.items():
            state = self.states[task_id]
            if state.status != "processing":
                row["in_company"] = state.in_company
            assert State(**row) == state, task_id
        told = {str(row["id"]) for row in self._sql("SELECT id FROM compute_callbacks")}
        assert told == self.ends, "one callback for each end"

    def _ready(self) -> list[UUID]:
        return [one for one, state in self.states.items() if state.status == "pending" and not state.delayed]

    def _holds(self, one: Handed) -> bool:
        state = self.states[one.task.id]
        return state.status == "processing" and state.attempt == one.task.attempt

    def _apply(self, verb: str, task_id: UUID) -> None:
        state = self.states[task_id] = VERBS[verb](self.states[task_id])
        if state.status in ENDS - {"cancelled"}:
            self.ends.add(f"{task_id}.{state.generation}.task.{state.status}")

    def _told(self, source: TaskSource, one: Handed, **fields: Any) -> Conflict | None:
        """Why this outcome was refused, reported alone; raises what is no Conflict."""
        outcome = Outcome.model_validate({"id": one.task.id, "attempt": one.task.attempt, **fields})
        [refused] = source.report(one.holder, [outcome])
        if refused is None or isinstance(refused, Conflict):
            return refused
        raise refused

    def _refused(self, call: Any) -> Conflict | None:
        try:
            call()
        except Conflict as refused:
            return refused
        return None

    def _sql(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.database.connection() as connection:
            result = connection.execute(text(statement), parameters)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


def vector(seed: int = 1) -> dict[str, Any]:
    return {"embeddings": np.random.default_rng(seed).normal(size=(1, 384)).astype(np.float32)}
