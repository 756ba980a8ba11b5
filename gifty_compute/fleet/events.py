"""Celery's events as the facade sends them for a poll worker: ids, names and numbers, never payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gifty_compute.fleet.roster import Member
from gifty_compute.queue.announce import task_name
from gifty_compute.wire.task import Task

__all__ = ["FREQ_SECONDS", "Event", "claimed", "ended", "heartbeat", "offline", "online"]

# Flower takes a worker for offline after twice this time. Our workers speak every 30 seconds.
FREQ_SECONDS = 45.0


@dataclass(frozen=True)
class Event:
    """One event of one worker, at a moment of the wall clock."""

    node: str
    type: str
    at: float
    fields: dict[str, Any]


def online(node: str, at: float, member: Member) -> Event:
    """The worker is there."""
    return Event(node, "worker-online", at, _machine(member))


def heartbeat(node: str, at: float, member: Member) -> Event:
    """The worker is still there, with what it has in hand."""
    counts = {"active": member.active, "processed": member.processed, "loadavg": None}
    return Event(node, "worker-heartbeat", at, {**_machine(member), **counts})


def offline(node: str, at: float) -> Event:
    """The worker has left, or fallen silent."""
    return Event(node, "worker-offline", at, {"freq": FREQ_SECONDS})


def claimed(node: str, at: float, task: Task) -> tuple[Event, Event]:
    """A task was handed out: `args` shows the model alone."""
    about = {"uuid": str(task.id), "name": task_name(task.task_type)}
    received = {
        "args": f"({task.model!r},)",
        "kwargs": "{}",
        "retries": task.failures,
        "eta": None,
        "expires": None,
        "root_id": str(task.id),
        "parent_id": None,
    }
    return Event(node, "task-received", at, {**about, **received}), Event(node, "task-started", at, about)


def ended(node: str, at: float, task: Task, *, good: bool) -> Event:
    """A result or a failure was taken; what a worker says of a failure stays in the task."""
    runtime = max(0.0, at - task.started_at.timestamp()) if task.started_at else 0.0
    about = {"uuid": str(task.id), "name": task_name(task.task_type), "runtime": round(runtime, 3)}
    if good:
        return Event(node, "task-succeeded", at, {**about, "result": "done 1"})
    exception = f"failed; GET /v1/tasks/{task.id} has the reason"
    return Event(node, "task-failed", at, {**about, "exception": exception, "traceback": ""})


def _machine(member: Member) -> dict[str, Any]:
    """What Celery says of a worker's software, here: its program, version, and model on GPU."""
    info = member.info
    system = " on ".join(info[word] for word in ("model", "gpu") if word in info)
    return {
        "freq": FREQ_SECONDS,
        "sw_ident": info.get("program", "poll worker"),
        "sw_ver": info.get("version", ""),
        "sw_sys": system,
        "model": info.get("model", ""),
        "gpu": info.get("gpu", ""),
    }
