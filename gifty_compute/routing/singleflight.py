"""Singleflight: callers who ask the same thing at the same time share one run of it."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future
from typing import NamedTuple

import orjson

from gifty_compute.errors import DeadlineExceeded
from gifty_compute.routing.call import Answer, Call, Next

__all__ = ["Singleflight"]

# Scores and language models may answer differently each time, and are asked again for that.
_KINDS = frozenset({"embedding", "rerank", "classify"})


class _Key(NamedTuple):
    """All that decides about an answer, but for luck."""

    kind: str
    model: str
    logic_version: str
    never: frozenset[str]
    payload: bytes


class Singleflight:
    """A stage in which the first caller leads, in its own thread, and the same calls that come then wait.

    All get the same answer or error, which they must not change. A follower waits until its own deadline and
    no longer; one with time left does not take over the leader's DeadlineExceeded but runs for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[_Key, Future[Answer]] = {}

    def run(self, call: Call, then: Next) -> Answer:
        if not call.logic.file.routing.singleflight or call.kind not in _KINDS:
            return then(call)
        key = _key(call)
        while True:
            mine: Future[Answer] = Future()
            with self._lock:
                flight = self._flights.setdefault(key, mine)
            if flight is mine:
                return self._lead(key, mine, call, then)
            answer = _follow(flight, call)
            if answer is not None:
                return answer

    def _lead(self, key: _Key, flight: Future[Answer], call: Call, then: Next) -> Answer:
        try:
            answer = then(call)
        except BaseException as error:
            self._land(key)
            flight.set_exception(error)
            raise
        self._land(key)
        flight.set_result(answer)
        return answer

    def _land(self, key: _Key) -> None:
        """Whoever comes from now on, and whoever is told of a failure, starts anew."""
        with self._lock:
            del self._flights[key]


def _follow(flight: Future[Answer], call: Call) -> Answer | None:
    """The flight's answer; None where it ended for a reason that was the leader's own."""
    try:
        error = flight.exception(call.deadline.remaining)
    except TimeoutError as late:
        raise DeadlineExceeded("the same request is still under way") from late
    # A thread that is being ended, as by SystemExit, says nothing about the request.
    leaders_own = isinstance(error, DeadlineExceeded) or not isinstance(error, Exception)
    if error is None or not leaders_own:
        return flight.result()
    if call.deadline.expired:
        raise DeadlineExceeded("no answer within the deadline") from error
    return None


def _key(call: Call) -> _Key:
    payload = hashlib.blake2b(orjson.dumps(call.payload, option=orjson.OPT_SORT_KEYS), digest_size=20)
    return _Key(call.kind, call.model.name, call.logic.version, call.never, payload.digest())
