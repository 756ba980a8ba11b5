"""Admission: each kind of request has places of its own, so that no kind takes the threads of another.

The kinds together never use all threads of the process: what no kind has is left for requests that end at
once, as probes, submits and refusals do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum

from api.facade import this_app
from api.places import Leave, NoPlace, Occupancy, Places
from gifty_compute.errors import Unavailable

__all__ = ["Admission", "Kind", "admission", "threads_of_server"]


class Kind(StrEnum):
    """What a thread is held for. The values are label values of /metrics."""

    QUICK = "quick"
    """Embeddings, reranks and classifications at high priority."""
    SLOW = "slow"
    """Chats, streamed or not, and scores at high priority."""
    WAITS = "waits"
    """Callers and workers that wait for an end or for work (`?wait=`)."""
    WORKERS = "workers"
    """Claims, heartbeats, releases and reports of workers."""
    BODIES = "bodies"
    """Bodies that are being read and say that they are short."""
    LARGE_BODIES = "large_bodies"
    """Other bodies that are being read, except those of batches."""
    UPLOADS = "uploads"
    """Bodies of batches, until they are committed."""
    RESULTS = "results"
    """Results of batches that are being sent."""


# Of 64 threads: how many requests of the kind are served at once, and how many may wait for that. A request
# holds a place of one kind at a time. The rest, 4 of 64, is for requests that need no place. Not counted is
# the line in front of short bodies: a burst of calls stands there for a moment, a second at most, on threads
# of the kinds that these calls are of.
_PARTS: Mapping[Kind, tuple[int, int]] = {
    Kind.QUICK: (10, 6),
    Kind.SLOW: (20, 1),
    Kind.WAITS: (4, 0),
    Kind.WORKERS: (2, 4),
    Kind.BODIES: (6, 30),
    Kind.LARGE_BODIES: (3, 2),
    Kind.UPLOADS: (1, 0),
    Kind.RESULTS: (1, 0),
}
# Of a kind's places, and of its line: what one client may hold where there are others.
_SHARE = 3 / 4
# These are used by workers as well as by clients, or by credentials that are not known at the start.
_SHARED = frozenset({Kind.WAITS, Kind.WORKERS, Kind.BODIES, Kind.LARGE_BODIES})
# How long a request waits that has no deadline yet, or never gets one.
_PATIENCE_SECONDS = 1.0


class Admission:
    """The places of one process.

    A request that finds no place waits in line, fairly among clients (`Places`), until its deadline; then, or
    at once where the line is full, it is refused with 503 and Retry-After.
    """

    def __init__(self, threads: int, *, clients: int = 2) -> None:
        """`clients` counts the configured clients: a single one may take all places that only clients use."""
        self._places = {
            kind: Places(
                max(1, threads * size // 64),
                line=threads * line // 64,
                share=1.0 if clients == 1 and kind not in _SHARED else _SHARE,
            )
            for kind, (size, line) in _PARTS.items()
        }

    def enter(self, kind: Kind, client: str, seconds: float = _PATIENCE_SECONDS) -> Leave:
        """A place, at once or within so many seconds. Raises Unavailable."""
        try:
            return self._places[kind].enter(client, seconds)
        except NoPlace as error:
            raise Unavailable(f"too many requests of the kind {kind}: {error}; try again") from error

    def try_enter(self, kind: Kind, client: str) -> Leave | None:
        """A place, if one is free now."""
        return self._places[kind].try_enter(client)

    def place(
        self, kind: Kind, client: str, seconds: float = _PATIENCE_SECONDS
    ) -> AbstractContextManager[None]:
        """A place, at once or within so many seconds, as long as the block runs. Raises Unavailable."""
        return _Held(self.enter(kind, client, seconds))

    def occupancy(self) -> dict[Kind, Occupancy]:
        """Of each kind, at this moment."""
        return {kind: places.occupancy() for kind, places in self._places.items()}


class _Held(AbstractContextManager[None]):
    """A block that gives its place back at its end. (A generator costs as much CPU as the place itself.)"""

    __slots__ = ("_leave",)

    def __init__(self, leave: Leave) -> None:
        self._leave = leave

    def __exit__(self, *_: object) -> None:
        self._leave()


def threads_of_server(argv: Sequence[str], environ: Mapping[str, str], at_most: int) -> int:
    """The number of threads that the server was started with, if it can be read and is less than `at_most`.

    More places than threads would let one kind of request take the threads of all others.

    >>> threads_of_server(["granian", "--blocking-threads", "64", "api.wsgi:app"], {}, 640)
    64
    >>> threads_of_server(["gunicorn"], {}, 640)
    640
    """
    said = [environ.get("GRANIAN_BLOCKING_THREADS", "")]
    for option, value in zip(argv, [*argv[1:], ""], strict=True):
        name, _, joined = option.partition("=")
        if name == "--blocking-threads":
            said.append(joined or value)
    return min(at_most, int(said[-1])) if said[-1].isdecimal() else at_most


def admission() -> Admission:
    """The places of this process."""
    found: Admission = this_app().extensions["admission"]
    return found
