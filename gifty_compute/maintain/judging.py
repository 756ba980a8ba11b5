"""The step that judges what untrusted workers handed in, once a referee has done the same work."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from gifty_compute.arrays import np
from gifty_compute.errors import Conflict, GiftyComputeError
from gifty_compute.maintain.step import ROWS_A_STEP
from gifty_compute.queue.database import Database
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.rows import result_columns, stored_row, task_of
from gifty_compute.queue.trust import judged_holder
from gifty_compute.wire import vectors
from gifty_compute.wire.task import Holder

__all__ = ["Judging"]

log = logging.getLogger(__name__)

_CHECKS_A_PASS = 100


class Judging:
    """First what follows from a verdict, then the verdict itself: who dies in between does it once more."""

    def __init__(self, database: Database, leases: LeaseStore) -> None:
        self._db, self._leases = database, leases

    def run(self, connection: Connection) -> Mapping[str, int]:
        rows = partial(self._db.rows_on, connection)
        counts = {"verified": 0, "refuted": 0, "unverified": 0}
        for check in rows("judgeable", limit=_CHECKS_A_PASS):
            verdict = self._verdict(check)
            try:
                self._follow(rows, check, verdict)
            except Conflict as error:
                log.info("task %s: the judged result came too late: %s", check["task_id"], error.code)
            except GiftyComputeError as error:
                log.error("task %s: its check cannot be followed: %s", check["task_id"], error)
                verdict = "unknown"
            rows("judge", id=str(check["id"]), verdict=verdict)
            counts[{"same": "verified", "different": "refuted", "unknown": "unverified"}[verdict]] += 1
        rechecked = rows("recheck", limit=ROWS_A_STEP)
        dismissed = rows("dismiss", limit=ROWS_A_STEP)
        return {**counts, "rechecked": len(rechecked), "dismissed": len(dismissed)}

    def _verdict(self, check: dict[str, Any]) -> str:
        if check["referee_status"] != "completed" or check["referee_data"] is None:
            return "unknown"
        found = _vectors(check) if check["stage"] == "held" else self._stored(check)
        if found is None:
            return "unknown"
        return "same" if vectors.same(_vectors(check, "referee_"), found) else "different"

    def _stored(self, check: dict[str, Any]) -> vectors.Vectors | None:
        """What the task has now, as long as it is still what this token handed in."""
        row = self._db.row("stored", id=str(check["task_id"]))
        if row is None or row["credential"] != str(check["token_id"]) or row["data"] is None:
            return None
        return _vectors(row)

    def _follow(self, rows: Any, check: dict[str, Any], verdict: str) -> None:
        task_id = UUID(str(check["task_id"]))
        if check["stage"] == "held":
            self._end_held(rows, check, task_id, verdict)
        elif verdict == "different":
            columns = result_columns(_result(check, "referee_"))
            worker, credential = check["referee_worker"], str(check["token_id"])
            rows("correct", id=str(task_id), worker_id=worker, credential=credential, **columns)

    def _end_held(self, rows: Any, check: dict[str, Any], task_id: UUID, verdict: str) -> None:
        stranger = judged_holder(check["token_id"], check["worker_id"])
        task = task_of(stored_row(self._db, task_id)).model_copy(update={"attempt": check["attempt"]})
        if verdict == "same":
            self._leases.complete(stranger, task, _result(check))
        elif verdict == "different":
            referee = Holder(worker_id=check["referee_worker"] or "", credential="referee")
            anybody = task.model_copy(update={"attempt": 0})
            self._leases.complete(referee, anybody, _result(check, "referee_"))
        else:
            held = {"ids": [str(task_id)], "attempts": [check["attempt"]]}
            rows("release", credential=stranger.credential, ending="unverified", **held)


def _vectors(row: dict[str, Any], whose: str = "") -> vectors.Vectors:
    dtype = np.dtype(row[f"{whose}dtype"]).newbyteorder("<")
    shape = (row[f"{whose}rows"], row[f"{whose}dim"])
    found: vectors.Vectors = np.frombuffer(row[f"{whose}data"], dtype=dtype).reshape(shape)
    return found


def _result(row: dict[str, Any], whose: str = "") -> dict[str, Any]:
    """As a worker would hand it in; `ids`, which are the task's own, come from there."""
    rest = {k: v for k, v in (row[f"{whose}result"] or {}).items() if k != "ids"}
    return {**rest, "embeddings": _vectors(row, whose)}
