"""Celery's events as the facade sends them for a poll worker: ids, names and numbers, never payloads.

What a request notes is a few fields; the event is made of them later, in another thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from gifty_compute.fleet.roster import Member
from gifty_compute.queue.announce import task_name

__all__ = ["FREQ_SECONDS", "Event", "TaskNote", "heartbeat", "offline", "online"]

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


class TaskNote(NamedTuple):
    """What became of a task at a worker, without its payload."""

    node: str
    at: float
    end: Literal["claimed", "succeeded", "failed"]
    id: UUID
    task_type: str
    model: str | None
    failures: int
    started_at: datetime | None

    def events(self) -> list[Event]:
        about: dict[str, Any] = {"uuid": str(self.id), "name": task_name(self.task_type)}
        if self.end == "claimed":
            received = Event(self.node, "task-received", self.at, {**about, **self._received()})
            return [received, Event(self.node, "task-started", self.at, about)]
        began = self.started_at.timestamp() if self.started_at else self.at
        about["runtime"] = round(max(0.0, self.at - began), 3)
        if self.end == "succeeded":
            return [Event(self.node, "task-succeeded", self.at, {**about, "result": "done 1"})]
        # What a worker says of a failure stays in the task.
        exception = f"failed; GET /v1/tasks/{self.id} has the reason"
        return [Event(self.node, "task-failed", self.at, {**about, "exception": exception, "traceback": ""})]

    def _received(self) -> dict[str, Any]:
        """`args` shows the model alone."""
        return {
            "args": f"({self.model!r},)",
            "kwargs": "{}",
            "retries": self.failures,
            "eta": None,
            "expires": None,
            "root_id": str(self.id),
            "parent_id": None,
        }


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
