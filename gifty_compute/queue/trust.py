"""Trust in strangers' workers: what they hand in is looked at, done again by trusted ones, and corrected.

Nothing here concerns a trusted token. Of an untrusted one the first results are held until a referee (the
same work, done by a trusted worker) agrees; later ones are taken at once, and a share of them is verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID, uuid4

import orjson

from gifty_compute.arrays import np
from gifty_compute.clock import Clock
from gifty_compute.errors import Conflict, InvalidResult, LeaseLost
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.outcome import checked, was_handed
from gifty_compute.queue.rows import result_columns, stored_row, task_of
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.wire import vectors
from gifty_compute.wire.size import estimated_tokens
from gifty_compute.wire.task import Holder, Task, Want
from gifty_compute.wire.token import WorkerToken

__all__ = ["Trust", "implausible"]

_TEXTS_OF_A_CANARY = 2
# Like other tasks it seems to have waited: one that was made when it was claimed would be known by that.
_OLDEST_CANARY_SECONDS = 600.0


def implausible(
    task: Task, found: vectors.Vectors, seconds: float, most_tokens_per_second: float
) -> str | None:
    """Why nobody could have computed these vectors for this task in that time; None where somebody could."""
    if len(set(task.payload["texts"])) > 1 and len(found) > 1 and (found == found[0]).all():
        return "all vectors are equal, the texts are not"
    if estimated_tokens(task.payload) > most_tokens_per_second * max(seconds, 0.001):
        return "no machine is that fast"
    return None


class Trust:
    """Stands between the bridge and the leases for holders that are not trusted; they do embeddings alone."""

    def __init__(
        self,
        database: Database,
        tasks: TaskStore,
        leases: LeaseStore,
        logic: Callable[[], Logic],
        clock: Clock,
        rng: Random,
    ) -> None:
        self._db, self._tasks, self._leases = database, tasks, leases
        self._logic, self._clock, self._rng = logic, clock, rng

    def complete(self, holder: Holder, token: WorkerToken, task: Task, result: dict[str, Any]) -> Task:
        """Takes a result, or keeps it aside: the task is `processing` then until it is verified.

        Raises what `LeaseStore.complete` raises; InvalidResult also for one that cannot be true, which puts
        the token into quarantine.
        """
        logic = self._logic()
        if not was_handed(stored_row(self._db, task.id), holder, task.attempt):
            raise LeaseLost(f"task {task.id}: attempt {task.attempt} was not handed to this token")
        kept = self._db.row("kept_result", id=str(task.id), attempt=task.attempt)
        if kept is not None and kept["referee_id"] is None and kept["stage"] == "held":
            return self._judge_canary(task, kept, checked(logic, task, result).result)
        if kept is not None:
            return self._again(holder, task, result, kept)
        outcome = checked(logic, task, result)
        self._refuse_the_implausible(logic, token, task, outcome.result["embeddings"])
        if token.quarantined_at is not None or token.verified < logic.file.trust.held:
            return self._hold(logic, holder, token, task, outcome.result)
        rate = max(1 / max(token.valid_in_a_row, 1), logic.file.trust.least_rate)
        referee = uuid4() if self._rng.random() < rate else None
        self._db.rows(
            "note_result",
            id=str(task.id),
            attempt=task.attempt,
            check_id=str(uuid4()),
            token_id=str(token.id),
            worker_id=holder.worker_id,
            referee_id=str(referee) if referee else None,
            digest=_digest(outcome.result["embeddings"]),
        )
        return self._leases.complete(holder, task, result)

    def canary(self, holder: Holder, token: WorkerToken, want: Want) -> tuple[Task, ...]:
        """Now and then a task whose answer is known, as if it had been claimed with the others.

        None where the space of the model has no reference vectors.
        """
        logic = self._logic()
        models = [name for kind, name in logic.offered(("embedding",), want.models) if kind == "embedding"]
        model = models[0] if models and not want.ids else ""
        space = logic.space_name("embedding", model) if model else None
        reference = logic.references.get(space or "")
        if reference is None or self._rng.random() >= logic.file.trust.canary_share:
            return ()
        places = sorted(
            self._rng.sample(range(len(reference.texts)), min(_TEXTS_OF_A_CANARY, len(reference.texts)))
        )
        golden = np.frombuffer(reference.vectors, dtype="<f4").reshape(-1, reference.dim)[places]
        payload = {"texts": [reference.texts[n] for n in places], "model": model, "input_type": "passage"}
        row = self._db.row(
            "plant_canary",
            id=str(uuid4()),
            check_id=str(uuid4()),
            payload=orjson.dumps(payload).decode(),
            model=model,
            space=space,
            tokens=estimated_tokens(payload),
            credential=holder.credential,
            worker_id=holder.worker_id,
            session=holder.session,
            token_id=str(token.id),
            lease_seconds=want.lease_seconds or logic.file.leases.seconds,
            age_seconds=self._rng.uniform(5, _OLDEST_CANARY_SECONDS),
            rows=len(places),
            dim=reference.dim,
            data=golden.tobytes(),
        )
        return (task_of(row),) if row is not None else ()

    def _refuse_the_implausible(
        self, logic: Logic, token: WorkerToken, task: Task, found: vectors.Vectors
    ) -> None:
        began = task.started_at or self._clock.now()
        seconds = (self._clock.now() - began).total_seconds()
        why = implausible(task, found, seconds, logic.file.trust.most_tokens_per_second)
        if why is None and self._db.row(
            "seen_before", id=str(task.id), token_id=str(token.id), digest=_digest(found)
        ):
            why = "the vectors are those of other texts"
        if why is not None:
            self._db.rows("quarantine", token_id=str(token.id))
            raise InvalidResult(
                f"this cannot be the result: {why}; the token is in quarantine", param="embeddings"
            )

    def _hold(
        self, logic: Logic, holder: Holder, token: WorkerToken, task: Task, result: dict[str, Any]
    ) -> Task:
        row = self._db.row(
            "hold_result",
            id=str(task.id),
            attempt=task.attempt,
            credential=holder.credential,
            hold_seconds=logic.file.trust.hold_seconds,
            referee_id=str(uuid4()),
            check_id=str(uuid4()),
            token_id=str(token.id),
            worker_id=holder.worker_id,
            digest=_digest(result["embeddings"]),
            **result_columns(result),
        )
        if row is not None:
            return task_of(row)
        kept = self._db.row("kept_result", id=str(task.id), attempt=task.attempt)
        if kept is not None:
            return self._again(holder, task, result, kept)
        # Nobody's result before it is verified: a late one of a stranger does not win.
        raise LeaseLost(f"task {task.id}: attempt {task.attempt} does not hold it")

    def _again(self, holder: Holder, task: Task, result: dict[str, Any], kept: dict[str, Any]) -> Task:
        """The same report once more, since its answer was lost."""
        if kept["stage"] == "held":
            return self._tasks.stored(task.id)
        if kept["stage"] in ("taken", "asked"):
            return self._leases.complete(holder, task, result)
        present = self._tasks.stored(task.id)
        if present.status == "completed":
            return present
        raise Conflict(f"task {task.id}: the result of attempt {task.attempt} was judged already")

    def _judge_canary(self, task: Task, kept: dict[str, Any], result: dict[str, Any]) -> Task:
        golden = np.frombuffer(kept["data"], dtype="<f4").reshape(kept["rows"], kept["dim"])
        verdict = "same" if vectors.same(golden, result["embeddings"].astype(np.float32)) else "different"
        self._db.rows("judge", id=str(kept["id"]), verdict=verdict)
        ended = task.model_copy(update={"status": "completed", "result": result})
        self._db.rows("end_canary", id=str(task.id))
        return ended


def _digest(found: vectors.Vectors) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(found).tobytes()).digest()


def judged_holder(token_id: UUID, worker_id: str) -> Holder:
    """The holder whose result was held, as it was when it handed it in."""
    return Holder(worker_id=worker_id, credential=str(token_id), strict=True, trusted=False)
