"""Microbatch: single texts of several callers become one call, while others are under way.

There is no timer and no thread: a batch is what gathered while the ones before it were in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from gifty_compute.arrays import np, npt
from gifty_compute.errors import DeadlineExceeded, InvalidRequest
from gifty_compute.routing.call import Answer, Call, Next

__all__ = ["Microbatch"]

# About 20,000 tokens of Russian: more in one pass makes a GPU no faster, and all of them wait for it.
_MAX_CHARACTERS = 60_000


@dataclass(eq=False)
class _Caller:
    """One who waits until it is woken: to lead `batch`, or because `outcome` is there."""

    call: Call
    most: int
    """How large a batch with it may be: a batch that was refused comes again in halves."""
    batch: list[_Caller] | None = None
    outcome: Answer | Exception | None = None
    gone: bool = False
    """It waits no longer; nothing may depend on it."""
    woken: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> str:
        text: str = self.call.payload["texts"][0]
        return text

    @property
    def input_type(self) -> str:
        input_type: str = self.call.payload["input_type"]
        return input_type

    def tell(self, outcome: Answer | Exception) -> None:
        self.outcome = outcome
        self.woken.set()


@dataclass(eq=False)
class _Lane:
    """Callers for one model, in the order in which they came; those of one input type may share a batch.

    While one of them could still be answered, as many batches are in flight as may be.
    """

    key: Hashable
    in_flight: int
    running: int = 0
    waiting: list[_Caller] = field(default_factory=list)


class Microbatch:
    """A stage in which a caller goes at once, in its own thread, unless enough batches are in flight.

    When a batch ends, its thread wakes one of those who wait to lead the next: of all in that batch the one
    with the latest deadline, and the batch runs under it. A leader with less time would cut the others
    short; they, with less time than it, stop waiting when theirs is over.

    A batch that is refused (InvalidRequest) is halved until the bad text is alone with its caller: for 64
    texts that takes a dozen calls, while one by one the good ones would wait for 64. Any other error is
    everybody's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, _Lane] = {}

    def run(self, call: Call, then: Next) -> Answer:
        section = call.logic.file.routing.microbatch
        if section is None or not _is_single(call):
            return then(call)
        caller = _Caller(call, section.max_texts)
        lane = self._enter(caller, section.in_flight)
        if caller.batch is None:
            self._wait(lane, caller)
        if caller.batch is not None:
            return self._lead(lane, caller, then)
        if isinstance(caller.outcome, Exception):
            raise caller.outcome
        assert caller.outcome is not None
        return caller.outcome

    def _enter(self, caller: _Caller, in_flight: int) -> _Lane:
        call = caller.call
        # A batch is of one client: what it costs is counted as its leader's.
        key = call.model.name, call.logic.version, call.never, call.client
        with self._lock:
            lane = self._lanes.setdefault(key, _Lane(key, in_flight))
            lane.waiting.append(caller)
            self._fill(lane)
        return lane

    def _wait(self, lane: _Lane, caller: _Caller) -> None:
        woken = False
        try:
            woken = caller.woken.wait(caller.call.deadline.remaining)
        finally:
            if not woken:
                self._leave(lane, caller)
        if not woken:
            raise DeadlineExceeded("the calls before this one are still under way")

    def _lead(self, lane: _Lane, leader: _Caller, then: Next) -> Answer:
        try:
            while True:
                try:
                    return _ask(leader, then)
                except InvalidRequest:
                    if leader.batch == [leader]:
                        raise
                    self._halve(lane, leader)
        finally:
            with self._lock:
                self._end(lane, leader)

    def _halve(self, lane: _Lane, leader: _Caller) -> None:
        """The leader keeps the half that it is in; the others are the next to be led by one of their own."""
        batch = leader.batch or []
        first, second = batch[: len(batch) // 2], batch[len(batch) // 2 :]
        for half in (first, second):
            for caller in half:
                caller.most = len(half)
        leader.batch, other = (first, second) if leader in first else (second, first)
        with self._lock:
            self._put_back(lane, other)
            self._fill(lane)

    def _leave(self, lane: _Lane, caller: _Caller) -> None:
        """Takes out a caller that waits no longer; if it was chosen to lead meanwhile, another one is."""
        with self._lock:
            caller.gone = True
            if caller in lane.waiting:
                lane.waiting.remove(caller)
                self._fill(lane)
            elif caller.batch is not None:
                self._end(lane, caller)

    # What follows is done by whoever holds the lock.

    def _end(self, lane: _Lane, leader: _Caller) -> None:
        """This leader leads no more, for whatever reason: who was told nothing waits for another."""
        leader.gone = True
        lane.running -= 1
        self._put_back(lane, leader.batch or [])
        self._fill(lane)

    def _put_back(self, lane: _Lane, callers: Sequence[_Caller]) -> None:
        lane.waiting[:0] = [one for one in callers if not one.gone and one.outcome is None]

    def _fill(self, lane: _Lane) -> None:
        """Wakes leaders as long as there are places in flight and callers for them."""
        while lane.running < lane.in_flight and (batch := _next_batch(lane)):
            leader = max(batch, key=lambda one: one.call.deadline.at)
            leader.batch = batch
            lane.running += 1
            leader.woken.set()
        if not lane.running and not lane.waiting:
            self._lanes.pop(lane.key, None)


def _is_single(call: Call) -> bool:
    """Whether it is one text of one caller; ids come with tasks, which are batches already."""
    return call.kind == "embedding" and len(call.payload["texts"]) == 1 and "ids" not in call.payload


def _next_batch(lane: _Lane) -> list[_Caller]:
    """Takes the first ones of the lane that have time left and one input type, as many as may go together."""
    batch: list[_Caller] = []
    most, characters = len(lane.waiting), 0
    for caller in lane.waiting:
        if caller.call.deadline.expired or (batch and caller.input_type != batch[0].input_type):
            continue
        most, characters = min(most, caller.most), characters + len(caller.text)
        if batch and (len(batch) >= most or characters > _MAX_CHARACTERS):
            break
        batch.append(caller)
    taken = set(batch)
    lane.waiting = [caller for caller in lane.waiting if caller not in taken]
    return batch


def _ask(leader: _Caller, then: Next) -> Answer:
    """The leader's part of the answer; the others of its batch are told theirs, or the error.

    They are told nothing of an InvalidRequest, which may be about one of them only.
    """
    batch = leader.batch or []
    if len(batch) == 1:
        return then(leader.call)
    others = [caller for caller in batch if caller is not leader]
    try:
        answer = then(leader.call.with_texts([caller.text for caller in batch]))
        vectors = answer.result["embeddings"]
        parts = {caller: _part(answer, vector) for caller, vector in zip(batch, vectors, strict=True)}
    except InvalidRequest:
        raise
    except Exception as error:
        for caller in others:
            caller.tell(error)
        raise
    for caller in others:
        caller.tell(parts[caller])
    return parts[leader]


def _part(answer: Answer, vector: npt.NDArray[np.float32]) -> Answer:
    """One caller's vector; what it took of the batch's tokens and cost, nobody knows."""
    return replace(answer, result={**answer.result, "embeddings": vector[None]}, usage=None, cost_usd=None)
