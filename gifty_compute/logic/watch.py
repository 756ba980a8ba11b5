"""The logic in force: a file that is read again and again, and swapped as a whole when it is good."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.clock import Clock, SystemClock
from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.contents import Contents, LogicFiles
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.losses import losses
from gifty_compute.logic.reading import BoundedReads
from gifty_compute.logic.source import Overrides, logic_of

__all__ = ["QUIET_SECONDS", "LogicWatch"]

log = logging.getLogger(__name__)

# The files are small and a read of them takes microseconds. Their bytes are compared, not their times:
# renames, links and mounts then need no care.
_PERIOD_SECONDS = 0.5
_SETTLING_SECONDS = 0.05
QUIET_SECONDS = 10.0
"""A version that loses something is taken once the file has not changed for so long."""

_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class _Waiting:
    """A good version that loses something."""

    logic: Logic
    digest: str
    losses: str
    since: float


class LogicWatch:
    """`current` is the newest good version; work that has begun keeps the value that it found.

    A bad file changes nothing: it is logged once, counted, and named by `error` until a good one comes. A
    good file that loses something of the version in force waits, named by `waiting`, until it has not changed
    for QUIET_SECONDS. `look` is for one thread at a time.
    """

    def __init__(
        self,
        path: Path,
        overrides: Overrides | None = None,
        *,
        clock: Clock | None = None,
        reads: BoundedReads | None = None,
    ) -> None:
        """Raises InvalidConfig when the first version is bad."""
        self._path, self._overrides = path, overrides or {}
        self._clock = clock or SystemClock()
        self._files = LogicFiles(path, reads)
        contents = self._files.read()
        self._current = logic_of(contents, self._overrides, name=str(path))
        self._seen = self._glimpsed = contents.digest
        self._waiting: _Waiting | None = None
        self._stop = threading.Event()
        self.error: str | None = None
        self.rejected = 0

    @property
    def current(self) -> Logic:
        """The logic in force."""
        return self._current

    @property
    def waiting(self) -> str | None:
        """What the version loses that waits to be taken; None where none waits."""
        waiting = self._waiting
        return waiting.losses if waiting else None

    @property
    def trouble(self) -> str | None:
        """Why the file is not in force, in a sentence that quotes nothing of it; None where it is."""
        if self.error is not None:
            bad = "cannot be read" if self._seen == _UNREADABLE else "is refused"
            return f"the file {bad}; an older version stays in force"
        if self._waiting is not None:
            return f"the file loses something; it is taken once it has not changed for {QUIET_SECONDS:g} s"
        return None

    def look(self) -> None:
        """Takes over what the file says now, if it is new, good, and loses nothing or has waited."""
        self._judge(self._read())

    def look_if_settled(self) -> None:
        """A look, but not while the file is being written: a change must stay for a moment.

        A writer that writes in place leaves the file empty or half for that moment.
        """
        found = self._read()
        if _key(found) != self._glimpsed:
            if self._stop.wait(_SETTLING_SECONDS):
                return
            before, found = found, self._read()
            self._glimpsed = _key(found)
            if _key(before) != self._glimpsed:
                return
        self._judge(found)

    def start(self) -> None:
        """Looks again and again, in a thread of its own: an edit is in force within a second."""
        log.info("logic %s is in force", self._current.version)
        self._warn_of(self._current)
        threading.Thread(target=self._watch, name="logic", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self.look_if_settled()

    def _read(self) -> Contents | InvalidConfig:
        try:
            return self._files.read()
        except InvalidConfig as error:
            return error

    def _judge(self, found: Contents | InvalidConfig) -> None:
        if isinstance(found, InvalidConfig):
            self._reject(_UNREADABLE, found)
        elif self._waiting is not None and found.digest == self._waiting.digest:
            self._take_if_quiet(self._waiting)
        elif found.digest != self._seen:
            self._judge_new(found)

    def _judge_new(self, found: Contents) -> None:
        try:
            new = logic_of(found, self._overrides, name=str(self._path))
            self._refuse_what_cannot_follow(new)
        except InvalidConfig as error:
            self._reject(found.digest, error)
            return
        except Exception as error:  # a fault of ours must not end the watch: the next good file counts
            log.exception("the logic could not be read")
            self._reject(
                found.digest, InvalidConfig(f"{self._path}: a fault of ours: {type(error).__name__}")
            )
            return
        lost = ", ".join(losses(self._current, new))
        self._seen, self.error, self._waiting = found.digest, None, None
        if lost:
            self._waiting = _Waiting(new, found.digest, lost, self._clock.monotonic())
            until = f"it is taken once it has not changed for {QUIET_SECONDS:g} s"
            log.warning("%s: %s, since it loses: %s", self._path, until, lost)
        else:
            self._take(new)

    def _take_if_quiet(self, waiting: _Waiting) -> None:
        quiet = self._clock.monotonic() - waiting.since
        if quiet >= QUIET_SECONDS:
            log.warning("%s: taken after %.0f s although it loses: %s", self._path, quiet, waiting.losses)
            self._take(waiting.logic)

    def _take(self, new: Logic) -> None:
        log.info("logic %s replaces %s", new.version, self._current.version)
        self._warn_of(new)
        self._current, self._waiting = new, None

    def _warn_of(self, logic: Logic) -> None:
        for warning in logic.warnings:
            log.warning("%s: %s", self._path, warning)

    def _refuse_what_cannot_follow(self, new: Logic) -> None:
        """Raises InvalidConfig for a version that may not replace the one in force, however long it waits."""
        try:
            new.refuse_changed_spaces(self._current)
            new.refuse_cut_off(self._current)
        except InvalidConfig as error:
            raise InvalidConfig(f"{self._path}: {error}") from error

    def _reject(self, seen: str, error: InvalidConfig) -> None:
        if seen != self._seen:
            log.error("logic %s stays in force: %s", self._current.version, error)
            self.rejected += 1
        self._seen, self.error, self._waiting = seen, str(error), None


def _key(found: Contents | InvalidConfig) -> str:
    return _UNREADABLE if isinstance(found, InvalidConfig) else found.digest
