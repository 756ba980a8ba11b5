"""Presence: which workers are there and what they take, kept in PostgreSQL for all processes to read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gifty_compute.clock import Clock
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.database import Database
from gifty_compute.wire.task import Holder, Want

__all__ = ["LIVE_SECONDS", "Pair", "Presence"]

log = logging.getLogger(__name__)

LIVE_SECONDS = 90.0
"""A worker that is silent for longer counts as gone. A lease is as long, and so is Flower's limit."""
Pair = tuple[str, str]
"""Task type and model."""
_PERIOD_SECONDS = 2.0
# A busy worker asks several times a second; its row is written every ten seconds.
_REST_SECONDS = 10.0
# Workers choose their names, and one token may come with any number of them.
_MOST_NOTES = 5000
_MOST_OF_A_CREDENTIAL = 5000


class Presence:
    """What the bridge notes in memory; one thread of the process stores it every two seconds.

    A request pays a look into a dict. When the process dies, a worker that is there asks again. `offered`
    gives the pairs that a want may be handed.
    """

    def __init__(self, database: Database, offered: Callable[[Want], list[Pair]], clock: Clock) -> None:
        self._db, self._offered, self._clock = database, offered, clock
        self._guard = threading.Lock()
        self._noted: dict[tuple[object, ...], float] = {}
        self._pairs: dict[tuple[str, str, str, str], str] = {}
        self._beats: dict[tuple[str, str, str], None] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Begins to store, in a thread of its own."""
        threading.Thread(target=self._run, name="presence", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def asked(self, holder: Holder, want: Want) -> None:
        """Notes a worker that asked for tasks, with the pairs that it may be handed; not for named tasks."""
        if want.ids:
            return
        if self._is_rested((*_instance(holder), want.task_types, want.models, want.spaces)):
            self._note(holder, self._offered(want))

    def beat(self, holder: Holder) -> None:
        """Notes a worker's heartbeat: it still takes what the same session asked for before."""
        if self._is_rested(instance := _instance(holder)):
            with self._guard:
                self._beats[instance] = None

    def say(self, holder: Holder, pairs: Iterable[Pair]) -> None:
        """Stores at once that this worker runs. Raises StoreUnavailable."""
        self._store([(holder.credential, holder.worker_id, *pair, holder.session) for pair in set(pairs)])

    def flush(self) -> None:
        """Stores the notes. Raises StoreUnavailable, and keeps the notes then."""
        with self._guard:
            pairs, self._pairs = self._pairs, {}
            beats, self._beats = self._beats, {}
        try:
            if pairs:
                self._store([(*key, session) for key, session in pairs.items()])
            if beats:
                credentials, worker_ids, sessions = map(list, zip(*beats, strict=True))
                said = {"credentials": credentials, "worker_ids": worker_ids, "sessions": sessions}
                self._db.rows("still_present", **said)
        except StoreUnavailable:
            with self._guard:
                self._pairs, self._beats = {**pairs, **self._pairs}, {**beats, **self._beats}
            raise

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            try:
                self.flush()
            except StoreUnavailable as error:
                log.warning("presence of workers is stored later: %s", error)
            except Exception:
                # The thread goes on after a fault: without it all workers would count as gone.
                log.exception("presence of workers was not stored")

    def _is_rested(self, key: tuple[object, ...]) -> bool:
        """Whether this was not noted lately; notes it. Beyond the bound on names all notes are forgotten."""
        now = self._clock.monotonic()
        with self._guard:
            if now - self._noted.get(key, float("-inf")) < _REST_SECONDS:
                return False
            if len(self._noted) >= _MOST_NOTES:
                self._noted.clear()
            self._noted[key] = now
            return True

    def _note(self, holder: Holder, pairs: Sequence[Pair]) -> None:
        with self._guard:
            for pair in pairs:
                if len(self._pairs) < _MOST_NOTES:
                    self._pairs[(holder.credential, holder.worker_id, *pair)] = holder.session

    def _store(self, rows: list[tuple[str, str, str, str, str]]) -> None:
        if not rows:
            return
        names = ("credentials", "worker_ids", "task_types", "models", "sessions")
        said: dict[str, Any] = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        self._db.rows("present", **said, most=_MOST_OF_A_CREDENTIAL)


def _instance(holder: Holder) -> tuple[str, str, str]:
    return holder.credential, holder.worker_id, holder.session
