"""RunPod's serverless endpoint: jobs in a queue, and the handlers behind it."""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.fakes.vendor import Body, Refused, Vendor, bearer, chat, embedding, openai_rows, ranked

__all__ = ["handled", "runpod"]

_HEALTH = {
    "jobs": {"completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0},
    "workers": {"idle": 1, "initializing": 0, "ready": 1, "running": 0, "throttled": 0},
}


class _Endpoint:
    """`/runsync` answers at once. A job of `/run` is in progress at the first look, and done at the next."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._work: dict[str, Body] = {}
        self._states: dict[str, str] = {}

    def answer(self, path: str, body: Body) -> Any:
        if path == "/openai/v1/chat/completions":
            return chat(body)
        match path.partition("?")[0].split("/")[1:]:
            case ["run"]:
                return self._begin(body["input"])
            case ["runsync"]:
                return self._done(f"sync-{next(self._numbers)}", body["input"])
            case ["status", job_id]:
                return self._look(job_id)
            case ["cancel", job_id]:
                return self._cancel(job_id)
            case ["health"]:
                return _HEALTH
        raise Refused(404, path)

    def _begin(self, work: Body) -> Body:
        job_id = f"job-{next(self._numbers)}"
        self._work[job_id], self._states[job_id] = work, "IN_QUEUE"
        return {"id": job_id, "status": "IN_QUEUE"}

    def _look(self, job_id: str) -> Body:
        match self._states.get(job_id):
            case None:
                raise Refused(404, "no such job")
            case "IN_QUEUE":
                self._states[job_id] = "IN_PROGRESS"
                return {"id": job_id, "status": "IN_PROGRESS", "delayTime": 12}
            case "CANCELLED":
                return {"id": job_id, "status": "CANCELLED"}
        self._states[job_id] = "COMPLETED"
        return self._done(job_id, self._work[job_id])

    def _cancel(self, job_id: str) -> Body:
        if job_id not in self._states:
            raise Refused(404, "no such job")
        if self._states[job_id] != "COMPLETED":
            self._states[job_id] = "CANCELLED"
        return {"id": job_id, "status": self._states[job_id]}

    def _done(self, job_id: str, work: Body) -> Body:
        job = {"id": job_id, "status": "COMPLETED", "delayTime": 12, "executionTime": 80}
        return {**job, "workerId": "w1", "output": handled(work)}


def handled(work: Body) -> Any:
    """Gifty's handler, and the infinity worker's three."""
    if "texts" in work:
        return {"embeddings": [embedding(work["model"], text) for text in work["texts"]]}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    if "openai_route" in work:
        inner = work["openai_input"]
        return [{"object": "list", "model": inner["model"], "data": openai_rows(inner), "usage": usage}]
    if "docs" in work:
        return {"model": work["model"], "results": ranked(work, "docs", best_first=False), "usage": usage}
    return {"object": "list", "model": work["model"], "data": openai_rows(work), "usage": usage}


def _rows(answer: Any) -> list[Any] | None:
    found: list[Any] | None = answer.get("output", {}).get("embeddings")
    return found


# What RunPod's program makes of an exception in a handler: JSON in a string.
_EXCEPTION = {
    "error_type": "<class 'RuntimeError'>",
    "error_message": "it broke",
    "error_traceback": "Traceback (most recent call last): ...",
    "hostname": "h",
    "worker_id": "w1",
    "runpod_version": "1.12.0",
}


def runpod() -> Vendor:
    """An endpoint with no jobs yet."""
    return Vendor(
        bearer,
        _Endpoint().answer,
        lambda status, why: {"error": why},
        {"id": "job-1", "status": "FAILED", "error": json.dumps(_EXCEPTION)},
        _rows,
        lambda row: (None, ""),
        method=lambda path: "GET" if path.startswith(("/status/", "/health")) else "POST",
    )
