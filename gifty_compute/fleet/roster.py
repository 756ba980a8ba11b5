"""The roster: which poll workers this process hears from, and what each says of itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Member", "Roster", "node_name", "told_of_itself"]

# As many workers as Flower keeps. Names are the workers' own, and a token may come with any number of them.
_MOST_MEMBERS = 5000
_KNOWN = ("program", "version", "model", "gpu", "host", "engine", "precision", "texts_per_second")
_LONGEST_WORD = 100


def node_name(worker_id: str) -> str:
    """What the worker is called in Flower.

    >>> node_name("kaggle-1")
    'kaggle-1@pull'
    """
    return f"{worker_id}@pull"


def told_of_itself(info: Mapping[str, Any]) -> dict[str, str]:
    """Of what a worker says of itself the known words, each short and printable; all else is passed over.

    >>> told_of_itself({"gpu": "Tesla T4\\n", "model": ["bge-m3", "bge-reranker-v2-m3"], "mood": "fine"})
    {'model': 'bge-m3, bge-reranker-v2-m3', 'gpu': 'Tesla T4'}
    """
    found = {}
    for name in _KNOWN:
        value = info.get(name)
        words = value if isinstance(value, list) else [value]
        said = ", ".join(str(word) for word in words if isinstance(word, str | int | float))
        if clean := "".join(c for c in said if c.isprintable())[:_LONGEST_WORD].strip():
            found[name] = clean
    return found


@dataclass
class Member:
    """A worker: what it said of itself, when it was heard of last (monotonic), and what it did."""

    heard: float
    told: float = float("-inf")
    """When Flower was told last that it is alive."""
    info: Mapping[str, str] = field(default_factory=dict)
    active: int = 0
    processed: int = 0


class Roster:
    """May be used by all threads. Who has been silent for `silence` seconds is no longer in it."""

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._members: OrderedDict[str, Member] = OrderedDict()
        self._lock = threading.Lock()

    def hear(
        self, name: str, now: float, *, info: Mapping[str, str] | None = None, began: int = 0, ended: int = 0
    ) -> bool:
        """Notes that this worker spoke, how many tasks it took and gave up or ended; True if it is new."""
        with self._lock:
            member = self._members.get(name)
            is_new = member is None
            if member is None:
                member = self._members[name] = Member(now)
            else:
                self._members.move_to_end(name)
            member.heard = now
            member.active = max(0, member.active + began - ended)
            member.processed += began
            if info:
                member.info = {**member.info, **info}
            if is_new and len(self._members) > _MOST_MEMBERS:
                self._members.popitem(last=False)
            return is_new

    def holds(self, name: str, count: int) -> None:
        """What the worker itself says that it has in hand, where it says all of it."""
        with self._lock:
            if name in self._members:
                self._members[name].active = count

    def due(self, now: float, every: float) -> list[tuple[str, Member]]:
        """Who has spoken since Flower was told of him, at most once in so many seconds; he is told of now."""
        with self._lock:
            due = [
                (name, one)
                for name, one in self._members.items()
                if one.told + every <= now and one.told < one.heard
            ]
            for _, one in due:
                one.told = now
            return [(name, replace(one)) for name, one in due]

    def drop_silent(self, now: float) -> list[str]:
        """Strikes out who has not spoken for so long, and says who that was."""
        with self._lock:
            silent = [name for name, one in self._members.items() if one.heard + self._silence <= now]
            for name in silent:
                del self._members[name]
            return silent

    def present(self) -> dict[str, Member]:
        """Everybody, as of now."""
        with self._lock:
            return {name: replace(one) for name, one in self._members.items()}
