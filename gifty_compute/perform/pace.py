"""Pace: how many tasks to ask for, so that the model never waits and nobody hoards."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gifty_compute.wire.task import Task

__all__ = ["MOST_IN_HAND", "WINDOW_SECONDS", "Load", "Pace", "items_of"]

# So much work is asked for at once, in seconds; a third of a lease at most, so that a beat can be missed.
WINDOW_SECONDS = 30.0
_MOST_A_CLAIM = 100
# Of tasks: one heartbeat names all of them.
MOST_IN_HAND = 500
_FIRST_TASKS = 4
# After so many seconds of work, what was measured before counts for a third.
_MEMORY_SECONDS = 10.0
# What of a payload is one item each; where none of it is there, a task is one item.
_LISTS = ("texts", "documents", "external_names", "products")


def items_of(task: Task) -> int:
    """How many texts, documents, names or products the task is about: at least 1."""
    lists = [task.payload.get(name) for name in _LISTS]
    return max([1, *(len(found) for found in lists if isinstance(found, list))])


@dataclass(frozen=True)
class Load:
    """What is in hand when a worker asks for more; `left` are the seconds that it may still use."""

    tasks: int
    items: int
    lease_seconds: float
    left: float | None = None


class Pace:
    """A worker's rate as measured, and from it the number of tasks to ask for.

    The rate is of items, over the time in which there was something to do. Trust grows as in TCP: 4 tasks in
    hand at first, one more with each that is done, so twice as many each round; after an out-of-memory or a
    lost lease half as many, and from there about one more each round.
    """

    def __init__(self, *, window: float = WINDOW_SECONDS, most: int = _MOST_A_CLAIM) -> None:
        self._window, self._most = window, min(most, _MOST_A_CLAIM)
        self._trusted = float(_FIRST_TASKS)
        self._slow_above = float(MOST_IN_HAND)
        self._items = self._seconds = 0.0
        self._mean_items = 1.0

    @property
    def rate(self) -> float | None:
        """Items a second; None before the first is done."""
        return self._items / self._seconds if self._seconds > 0 and self._items else None

    def claimed(self, items: list[int]) -> None:
        """So many items are in the tasks of a claim."""
        for count in items:
            self._mean_items += (count - self._mean_items) * 0.1

    def worked(self, seconds: float, items: int) -> None:
        """So many items were done in the last so many seconds, in which there was always something to do."""
        kept = math.exp(-seconds / _MEMORY_SECONDS)
        self._items = self._items * kept + items
        self._seconds = self._seconds * kept + seconds

    def done(self) -> None:
        """A task was done: more may be in hand."""
        more = 1.0 if self._trusted < self._slow_above else 1.0 / self._trusted
        self._trusted = min(self._trusted + more, MOST_IN_HAND)

    def halve(self) -> None:
        """Memory was short, or a lease was lost: too much was in hand."""
        self._trusted = self._slow_above = max(1.0, self._trusted / 2)

    def limit(self, load: Load) -> int:
        """How many tasks to ask for now; 0 while there is enough in hand.

        floor((min(T, lease / 3, left / 2) * rate - in hand) / mean items), from 0 to 100. Nothing is asked
        for as long as more than half of that is in hand: few large claims, not many of one task.

        >>> Pace().limit(Load(tasks=0, items=0, lease_seconds=90))
        4
        """
        room = min(self._room(load), int(self._trusted) - load.tasks, self._most)
        enough = load.tasks and room < min(self._most, (room + load.tasks) / 2)
        return 0 if enough else max(0, room)

    def _room(self, load: Load) -> int:
        """Tasks that the time allows for, beside what is in hand."""
        if load.left is not None and load.left <= 0:
            return 0
        if self.rate is None:
            return 0 if load.tasks else self._most
        seconds = min(self._window, load.lease_seconds / 3)
        # A machine that takes longer than that for a single task is asked for one at a time.
        items = max(seconds * self.rate, self._mean_items)
        if load.left is not None:
            items = min(items, load.left / 2 * self.rate)
        return math.floor((items - load.items) / self._mean_items)
