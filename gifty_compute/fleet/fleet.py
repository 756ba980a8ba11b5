"""The fleet of poll workers, as the bridge notes it and Flower shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gifty_compute.clock import Clock
from gifty_compute.fleet.events import TaskNote, online
from gifty_compute.fleet.herald import Herald
from gifty_compute.fleet.roster import Roster, node_name, told_of_itself
from gifty_compute.wire.task import Task

__all__ = ["Fleet"]

# Workers choose these words; metrics need few.
_MOST_PRECISIONS = 20


class Fleet:
    """What the bridge calls. Each call costs a lock and a few appends: nothing of it waits for the broker."""

    def __init__(self, roster: Roster, herald: Herald, clock: Clock) -> None:
        self._roster, self._herald, self._clock = roster, herald, clock

    def start(self) -> None:
        """Begins to tell Flower, in a thread of its own."""
        self._herald.start()

    def stop(self) -> None:
        self._herald.stop()

    def asked(self, worker_id: str, models: tuple[str, ...], tasks: Sequence[Task]) -> None:
        """A worker asked for work and got these tasks."""
        node = node_name(worker_id)
        self._hear(node, {"model": list(models)} if models else None, began=len(tasks))
        self._note(node, "claimed", tasks)

    def beat(self, worker_id: str, info: Mapping[str, Any] | None, held: int | None) -> None:
        """A worker's heartbeat; `held` is given if it named all that it holds."""
        node = node_name(worker_id)
        self._hear(node, info)
        if held is not None:
            self._roster.holds(node, held)

    def ended(self, worker_id: str | None, tasks: Sequence[Task], *, good: bool) -> None:
        """Results or failures of these tasks were taken."""
        if not worker_id or not tasks:
            return  # Somebody without a name, whom Flower cannot show.
        node = node_name(worker_id)
        self._hear(node, None, ended=len(tasks))
        self._note(node, "succeeded" if good else "failed", tasks)

    def released(self, worker_id: str, count: int) -> None:
        """A worker gave so many tasks back."""
        self._hear(node_name(worker_id), None, ended=count)

    def precisions(self) -> dict[str, int]:
        """How many workers compute in which numbers, as they say; "" says nothing, rare words are "other"."""
        counts = Counter(one.info.get("precision", "") for one in self._roster.present().values())
        found = dict(counts.most_common(_MOST_PRECISIONS))
        if rest := counts.total() - sum(found.values()):
            found["other"] = found.get("other", 0) + rest
        return found

    def _hear(self, node: str, info: Mapping[str, Any] | None, *, began: int = 0, ended: int = 0) -> None:
        told = told_of_itself(info) if info else None
        if self._roster.hear(node, self._clock.monotonic(), info=told, began=began, ended=ended):
            self._herald.tell([online(node, self._now(), self._roster.present()[node])])

    def _note(self, node: str, end: Literal["claimed", "succeeded", "failed"], tasks: Sequence[Task]) -> None:
        at = self._now()
        self._herald.tell(
            [
                TaskNote(node, at, end, one.id, one.task_type, one.model, one.failures, one.started_at)
                for one in tasks
            ]
        )

    def _now(self) -> float:
        return self._clock.now().timestamp()
