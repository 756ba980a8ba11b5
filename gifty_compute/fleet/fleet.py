"""The fleet of poll workers, as the bridge notes it and Flower shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gifty_compute.clock import Clock
from gifty_compute.fleet import events
from gifty_compute.fleet.herald import Herald
from gifty_compute.fleet.roster import Roster, node_name, told_of_itself
from gifty_compute.wire.task import Task

__all__ = ["Fleet"]


class Fleet:
    """What the bridge calls. Each call costs a lock and a few appends: nothing of it waits for the broker."""

    def __init__(self, roster: Roster, herald: Herald, clock: Clock) -> None:
        self._roster, self._herald, self._clock = roster, herald, clock

    def start(self) -> None:
        """Begins to tell Flower, in a thread of its own."""
        self._herald.start()

    def stop(self) -> None:
        self._herald.stop()

    def asked(self, worker_id: str, models: tuple[str, ...], tasks: Iterable[Task]) -> None:
        """A worker asked for work and got these tasks."""
        node, at, got = node_name(worker_id), self._now(), list(tasks)
        info = {"model": list(models)} if models else {}
        self._hear(node, info, began=len(got))
        for task in got:
            self._herald.tell(*events.claimed(node, at, task))

    def beat(self, worker_id: str, info: Mapping[str, Any] | None, held: int | None) -> None:
        """A worker's heartbeat; `held` is given if it named all that it holds."""
        node = node_name(worker_id)
        self._hear(node, info or {})
        if held is not None:
            self._roster.holds(node, held)

    def ended(self, worker_id: str | None, task: Task, *, good: bool) -> None:
        """A result or a failure of this task was taken."""
        if not worker_id:
            return  # Somebody without a name, whom Flower cannot show.
        node = node_name(worker_id)
        self._hear(node, {}, ended=1)
        self._herald.tell(events.ended(node, self._now(), task, good=good))

    def released(self, worker_id: str, count: int) -> None:
        """A worker gave so many tasks back."""
        self._hear(node_name(worker_id), {}, ended=count)

    def _hear(self, node: str, info: Mapping[str, Any], *, began: int = 0, ended: int = 0) -> None:
        now = self._clock.monotonic()
        if self._roster.hear(node, now, info=told_of_itself(info), began=began, ended=ended):
            self._herald.tell(events.online(node, self._now(), self._roster.present()[node]))

    def _now(self) -> float:
        return self._clock.now().timestamp()
