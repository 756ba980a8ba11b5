"""Keys: the providers' keys and addresses, from the environment and from a file that is watched."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.reading import BoundedReads, read_plain_file

__all__ = ["Keys", "parse_keys", "read_keys"]

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 0.5
_LONGEST = 64 * 1024
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


class Keys:
    """`current` is the environment with the file's newest good version over it; one mapping for each version.

    A file that is bad, cut off, empty or gone changes nothing: it is logged once, and `error` says what is
    wrong until a good one comes. Neither ever holds a key.
    """

    def __init__(
        self, environ: Mapping[str, str], path: Path | None = None, *, reads: BoundedReads | None = None
    ) -> None:
        """Raises InvalidConfig when the first version of the file is bad."""
        self._environ, self._path = dict(environ), path
        self._reads = reads or BoundedReads()
        self._stop = threading.Event()
        self._glimpsed: str | None = None
        self._rejected: str | None = None
        self.error: str | None = None
        self._text = "" if path is None else _read(path, self._reads)
        self._current = self._with(parse_keys(self._text, str(path)) if path else {})

    @property
    def current(self) -> Mapping[str, str]:
        """Not to be changed; another object as soon as the file says something else."""
        return self._current[1]

    @property
    def version(self) -> str:
        """Another one for each other content; says nothing of the keys."""
        return self._current[0]

    def look(self) -> None:
        """Takes over what the file says, if that is new, good, and the same as at the last look."""
        if self._path is None:
            return
        try:
            text = _read(self._path, self._reads)
            before, self._glimpsed = self._glimpsed, text
            if text == self._text:
                self.error = self._rejected = None
            elif text == before:
                self._take(text, parse_keys(text, str(self._path)))
        except InvalidConfig as error:
            if self._rejected != str(error):
                log.error("the keys in force stay: %s", error)
            self._rejected = self.error = str(error)

    def start(self) -> None:
        """Looks again and again, in a thread of its own: a new key is in force within two seconds."""
        if self._path is not None:
            threading.Thread(target=self._watch, name="keys", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end the watch
                # Not its text, which may hold a key.
                log.error("the keys could not be looked at: %s", type(error).__name__)

    def _take(self, text: str, found: Mapping[str, str]) -> None:
        old = parse_keys(self._text, str(self._path))
        names = sorted(name for name in {*old, *found} if old.get(name) != found.get(name))
        gone = sorted({*old} - {*found})
        self._text, self._current = text, self._with(found)
        self.error = self._rejected = None
        log.warning("new keys are in force", extra={"changed": names, "gone": gone})

    def _with(self, found: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        said = repr(sorted(found.items())).encode(errors="surrogateescape")
        return hashlib.sha256(said).hexdigest()[:12], {**self._environ, **found}


def read_keys(path: Path) -> dict[str, str]:
    """The names and values of the file. Raises InvalidConfig."""
    return parse_keys(_read(path, BoundedReads()), str(path))


def parse_keys(text: str, name: str = "keys") -> dict[str, str]:
    """The values by their names, of lines NAME=value; lines of # are comments, quotes around values go.

    Raises InvalidConfig, which names the line and quotes nothing of it: for another form, a name that is
    given twice, a last line without an end (it may be cut off), and a text without any name.

    >>> parse_keys("# mine\\nexport GROQ_API_KEY='gsk-1'\\nOWN_KEY=\\n")
    {'GROQ_API_KEY': 'gsk-1', 'OWN_KEY': ''}
    """
    found: dict[str, str] = {}
    if text and not text.endswith("\n"):
        raise InvalidConfig(f"{name}: the last line has no end and may be cut off: end it with a newline")
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise InvalidConfig(f"{name}: line {number} is not NAME=value")
        if parts[1] in found:
            raise InvalidConfig(f"{name}: line {number} names {parts[1]} for the second time")
        found[parts[1]] = _unquoted(parts[2], f"{name}: line {number}")
    if not found:
        raise InvalidConfig(f"{name}: holds no NAME=value; without a file of keys unset PROVIDER_KEYS_FILE")
    return found


def _unquoted(value: str, where: str) -> str:
    value = value.strip()
    for quote in "\"'":
        if value.startswith(quote):
            if len(value) < 2 or not value.endswith(quote):
                raise InvalidConfig(f"{where} has a quote without its other half")
            return value[1:-1]
    return value


def _read(path: Path, reads: BoundedReads) -> str:
    """The text of a short, plain file. Raises InvalidConfig, also where the read takes too long."""
    try:
        raw = reads.run(lambda: read_plain_file(path, _LONGEST), path)
    except InvalidConfig as error:
        raise InvalidConfig(f"{error}; PROVIDER_KEYS_FILE names another") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{path}: is not UTF-8") from error
