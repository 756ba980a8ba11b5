"""Hedge: a second call when the first one takes unusually long; the first answer wins."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial

from gifty_compute.errors import DeadlineExceeded
from gifty_compute.logging import carried
from gifty_compute.logic.file import HedgeSection
from gifty_compute.routing.call import Answer, Call, Next

__all__ = ["Hedge"]

_KINDS = frozenset({"embedding", "rerank"})
_WINDOW = 200
_LEAST_SAMPLES = 20
# Hedges in a row, when all calls become slow at once: then a second call is only more load.
_MOST_CREDIT = 10.0
# Calls at a time that may be hedged, and second calls at a time. Where more are under way the service is
# busy, and calls go without a hedge, in their callers' threads.
_PLACES = 32
# Whoever is asked ends by the deadline itself and knows better why; its word is waited for.
_GRACE_SECONDS = 0.05


class _Record:
    """How long the successful calls of one kind and model took lately, and how many may be hedged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._credit = 0.0

    def begin(self, section: HedgeSection) -> float | None:
        """Counts a call. Seconds after which it is unusually slow; None while too little is known."""
        with self._lock:
            self._credit = min(_MOST_CREDIT, self._credit + section.max_share)
            seconds = sorted(self._seconds)
        if len(seconds) < _LEAST_SAMPLES:
            return None
        return seconds[math.ceil(section.percentile / 100 * len(seconds)) - 1]

    def add(self, seconds: float) -> None:
        with self._lock:
            self._seconds.append(seconds)

    def take(self) -> bool:
        """Whether one more call may be hedged; it is counted as such."""
        with self._lock:
            if self._credit < 1:
                return False
            self._credit -= 1
            return True


class _Threads:
    """Threads for calls that must not hold up whoever waits for them; a call never waits for a thread."""

    def __init__(self, pool: ThreadPoolExecutor, places: int) -> None:
        self._pool = pool
        self._free = threading.BoundedSemaphore(places)

    def start(self, run: Callable[[Call], Answer], call: Call) -> Future[Answer] | None:
        """The call's future; None where no thread is free for it."""
        if not self._free.acquire(blocking=False):
            return None
        try:
            future = self._pool.submit(carried(run), call)
        except RuntimeError:  # the process may have no more threads
            self._free.release()
            return None
        future.add_done_callback(lambda _: self._free.release())
        return future


class Hedge:
    """A stage that asks again, the first provider of the route last, when a call is slower than most.

    Whoever shall be able to go on without the first call cannot run it itself: a call that may be hedged runs
    in another thread, about 0.1 ms more. One that cannot be (too little is known yet, no time would be left,
    no thread is free) runs in its caller's. A call that lost ends, in its thread, with the attempt that it is
    in; its answer is dropped, its time is counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], _Record] = {}
        pool = ThreadPoolExecutor(2 * _PLACES, thread_name_prefix="hedge")
        self._firsts, self._seconds = _Threads(pool, _PLACES), _Threads(pool, _PLACES)

    def run(self, call: Call, then: Next) -> Answer:
        section = call.logic.file.routing.hedge
        if section is None or call.kind not in _KINDS:
            return then(call)
        record = self._record(call)
        ask = partial(_timed, record, then)
        patience = record.begin(section)
        if patience is None or patience >= call.deadline.remaining:
            return ask(call)
        dropped = threading.Event()
        call = replace(call, dropped=dropped)
        first = self._firsts.start(ask, call)
        if first is None:
            return ask(call)
        try:
            wait([first], timeout=patience)
            hedged = not first.done() and record.take()
            second = self._seconds.start(ask, _elsewhere(call)) if hedged else None
            return _first_success(call, first, second)
        finally:
            dropped.set()

    def _record(self, call: Call) -> _Record:
        with self._lock:
            return self._records.setdefault((call.kind, call.model.name), _Record())


def _timed(record: _Record, then: Next, call: Call) -> Answer:
    clock = call.deadline.clock
    began = clock.monotonic()
    answer = then(call)
    record.add(clock.monotonic() - began)
    return answer


def _elsewhere(call: Call) -> Call:
    """The same call, for anybody but the route's first provider if there is anybody."""
    offers = call.logic.offers(call.kind, call.model)
    able = [offer.provider for offer in offers if offer.provider not in call.never]
    return replace(call, last=call.last | frozenset(able[:1]))


def _first_success(call: Call, first: Future[Answer], second: Future[Answer] | None) -> Answer:
    """Raises the first one's error when neither succeeds, DeadlineExceeded when none ends in time."""
    if second is None:
        _await({first}, call)
        return first.result()
    waiting = {first, second}
    while waiting:
        waiting = _await(waiting, call)
        for winner, loser in ((first, second), (second, first)):
            if winner.done() and winner.exception() is None:
                return _with_dropped(winner.result(), loser)
    return first.result()


def _await(calls: set[Future[Answer]], call: Call) -> set[Future[Answer]]:
    """Those that are still under way after one of them has ended. Raises DeadlineExceeded."""
    ended, waiting = wait(calls, call.deadline.remaining + _GRACE_SECONDS, FIRST_COMPLETED)
    if not ended:
        raise DeadlineExceeded("no answer within the deadline")
    return waiting


def _with_dropped(answer: Answer, dropped: Future[Answer]) -> Answer:
    """The answer with what the dropped call took: while that is not known, one attempt at an unknown cost."""
    if not dropped.done() or dropped.exception() is not None:
        return replace(answer, attempts=answer.attempts + 1, cost_usd=None)
    other = dropped.result()
    cost = None if answer.cost_usd is None or other.cost_usd is None else answer.cost_usd + other.cost_usd
    return replace(answer, attempts=answer.attempts + other.attempts, cost_usd=cost)
