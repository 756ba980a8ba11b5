"""The logic in force: a file that is read again and again, and swapped as a whole when it is good."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import Overrides, parse_logic, read_text

__all__ = ["LogicWatch"]

log = logging.getLogger(__name__)

# The file is small and a read of it takes microseconds. Its bytes are compared, not its times: renames, links
# and mounts then need no care.
_PERIOD_SECONDS = 0.5
_SETTLING_SECONDS = 0.05


class LogicWatch:
    """`current` is the newest good version; whoever begins some work keeps the value that it found.

    A bad file changes nothing: it is logged once, counted, and named by `error` until a good one comes.
    """

    def __init__(self, path: Path, overrides: Overrides | None = None) -> None:
        """Raises InvalidConfig when the first version is bad."""
        self._path, self._overrides = path, overrides or {}
        text = read_text(path)
        self._seen = _digest(text)
        self._current = parse_logic(text, self._overrides, name=str(path), folder=path.parent)
        self._glimpsed: bytes | None = text.encode()
        self._stop = threading.Event()
        self.error: str | None = None
        self.rejected = 0

    @property
    def current(self) -> Logic:
        """The logic in force."""
        return self._current

    def look(self) -> None:
        """Takes over what the file says now, if it is new and good."""
        try:
            text = read_text(self._path)
        except InvalidConfig as error:
            self._reject("unreadable", error)
            return
        seen = _digest(text)
        if seen == self._seen:
            return
        try:
            new = parse_logic(text, self._overrides, name=str(self._path), folder=self._path.parent)
            self._refuse_changed_spaces(new)
        except InvalidConfig as error:
            self._reject(seen, error)
            return
        except Exception as error:  # a fault of ours must not end the watch: the next good file counts
            log.exception("the logic could not be read")
            self._reject(seen, InvalidConfig(f"{self._path}: a fault of ours: {type(error).__name__}"))
            return
        log.info("logic %s replaces %s", new.version, self._current.version)
        self._warn_of(new)
        self._current, self._seen, self.error = new, seen, None

    def look_if_settled(self) -> None:
        """A look, but not while the file is being written: a change must stay for a moment.

        Who writes a file in place leaves it empty or half for that moment, and an empty one is good: it would
        send all work along the built-in routes.
        """
        before, found = self._glimpsed, _glimpse(self._path)
        if found != before and self._stop.wait(_SETTLING_SECONDS):
            return
        self._glimpsed = _glimpse(self._path) if found != before else found
        if self._glimpsed == found:
            self.look()

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

    def _warn_of(self, logic: Logic) -> None:
        for warning in logic.warnings:
            log.warning("%s: %s", self._path, warning)

    def _refuse_changed_spaces(self, new: Logic) -> None:
        try:
            new.refuse_changed_spaces(self._current)
        except InvalidConfig as error:
            raise InvalidConfig(f"{self._path}: {error}") from error

    def _reject(self, seen: str, error: InvalidConfig) -> None:
        if seen != self._seen:
            log.error("logic %s stays in force: %s", self._current.version, error)
            self.rejected += 1
        self._seen, self.error = seen, str(error)


def _glimpse(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
