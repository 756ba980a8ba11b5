"""What a client does beyond one exchange: trying again, sitting out an outage, waiting for a task's end.

A plan is a generator: it yields what is to be done next, a `Send` or a `Pause`, and is given the answer or
the error. So it is written once for the client that blocks and the client that awaits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, TypeVar

from gifty_compute.backoff import Backoff
from gifty_compute.client import calls
from gifty_compute.client.calls import ApiCall
from gifty_compute.client.errors import ApiError, Busy, InConflict, Refused, Unreachable
from gifty_compute.clock import Clock, Deadline, SilenceDeadline
from gifty_compute.errors import GiftyComputeError
from gifty_compute.wire.task import ENDS, TaskView

__all__ = ["Pause", "Plan", "Plans", "Send", "follow", "follow_async"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES = 3
_BACKOFF = Backoff(base=0.4, cap=20)
# A restart of the service, a deployment, a failover of its database.
_OUTAGE_SECONDS = 300.0
# Proxies give up after 60 seconds of silence, the usual ones.
_WAIT_SECONDS = 25.0
# When the service has no room for waiting callers and answers at once.
_LOOK_AGAIN = Backoff(base=0.5, cap=8)


@dataclass(frozen=True)
class Send(Generic[T]):
    """Make this call once, within so many seconds."""

    call: ApiCall[T]
    seconds: float

    def deadline(self, clock: Clock) -> SilenceDeadline:
        """By when the answer must be there; of one that goes on while it flows, by when its next line is."""
        whole = Deadline.after(self.seconds, clock)
        return SilenceDeadline(
            whole, silence=self.seconds, longest=max(self.seconds, self.call.longest_stream)
        )


@dataclass(frozen=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


Plan = Generator[Send[Any] | Pause, Any, T]


class Plans:
    """The plans of one client; `timeout` is for calls that have none of their own."""

    def __init__(self, timeout: float, clock: Clock, rng: Random) -> None:
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout: {timeout!r} is not a number of seconds above 0")
        self._timeout, self._clock, self._rng = timeout, clock, rng
        self._most_told_ms: dict[str, int] = {}
        """By path: the longest timeout that the service takes, where it has refused a longer one."""

    def trying(self, call: ApiCall[T]) -> Plan[T]:
        """The call, within its timeout, and up to twice more where that can do no harm and may help.

        Raises ApiError, Unreachable.
        """
        deadline = Deadline.after(self._timeout if call.timeout is None else call.timeout, self._clock)
        call = self._told_less(call, self._most_told_ms.get(call.path))
        for left in reversed(range(_TRIES)):
            try:
                return (yield from self._with_a_timeout_that_is_taken(call, deadline))
            except (ApiError, Unreachable) as error:
                pause = self._pause(error, _TRIES - left)
                if not left or not _may_repeat(call, error) or pause >= deadline.remaining:
                    raise
            yield Pause(pause)
        raise AssertionError("the last try returns or raises")

    def in_order(
        self, calls: Sequence[ApiCall[T]], timeout: float | None, join: Callable[[list[T]], T]
    ) -> Plan[T]:
        """The calls one after the other, and what `join` makes of their answers.

        `timeout` is for all of them together; without one each has the client's own. Raises ApiError,
        Unreachable.
        """
        deadline = Deadline.after(math.inf if timeout is None else timeout, self._clock)
        answers: list[T] = []
        for call in calls:
            if answers and deadline.expired:
                done = f"{len(answers)} of {len(calls)} calls"
                raise Unreachable(f"{call}: the time of {timeout:g} s was over after {done}", sent=False)
            if timeout is not None:
                call = replace(call, timeout=max(deadline.remaining, 0.001))
            try:
                answers.append((yield from self.trying(call)))
            except ApiError as error:
                if len(calls) > 1:
                    which = f"in call {len(answers) + 1} of {len(calls)}"
                    error.add_note(f"{which}: its positions count from position {call.first} of the list")
                raise
        return join(answers)

    def _with_a_timeout_that_is_taken(self, call: ApiCall[T], deadline: Deadline) -> Plan[T]:
        """One try; where the service refuses the timeout it is told, a second one with its longest."""
        try:
            answer: T = yield Send(call, max(deadline.remaining, 0.001))
        except Refused as error:
            if error.param != "timeout_ms" or not call.budgeted:
                raise
            if error.max_timeout_ms is None:
                call = replace(call, budgeted=False)
            else:
                self._most_told_ms[call.path] = error.max_timeout_ms
                call = self._told_less(call, error.max_timeout_ms)
            answer = yield Send(call, max(deadline.remaining, 0.001))
        return answer

    def _told_less(self, call: ApiCall[T], most_ms: int | None) -> ApiCall[T]:
        if most_ms is None:
            return call
        return replace(call, most_told_ms=min(most_ms, call.most_told_ms or most_ms))

    def patiently(self, call: ApiCall[T], until: Deadline | None = None) -> Plan[T]:
        """A repeatable call, through an outage of some minutes, but not beyond `until`."""
        end = until or Deadline.after(math.inf, self._clock)
        outage, failures = end, 0
        while True:
            try:
                return (yield from self.trying(call))
            except (ApiError, Unreachable) as error:
                if not _may_pass(error):
                    raise
                is_full = isinstance(error, Busy) and error.status == 429
                if is_full:
                    # It is there, and others are first: that may take as long as it takes.
                    outage, failures = end, 0
                elif not failures:
                    outage = Deadline.after(min(_OUTAGE_SECONDS, end.remaining), self._clock)
                failures += 1
                pause = self._pause(error, failures)
                if pause >= outage.remaining:
                    raise
                if failures == 1 and not is_full:
                    log.warning("%s; trying on for %.0f s", error, outage.remaining)
            yield Pause(pause)

    def resuming(self, submit: ApiCall[TaskView]) -> Plan[TaskView]:
        """A submit, patiently; a task that its key finds, and that came to nothing, is tried once more."""
        task = yield from self.patiently(submit)
        if task.status not in ("failed", "cancelled"):
            return task
        try:
            return (yield from self.trying(calls.retry(str(task.id))))
        except InConflict:
            # Somebody else was faster.
            return (yield from self.patiently(calls.task(str(task.id))))

    def waiting(self, task: TaskView, seconds: float) -> Plan[TaskView]:
        """The task when it has ended, or when so many seconds have passed; it is looked at once at least."""
        return self.looking(
            task,
            lambda wait: calls.task(str(task.id), wait=wait),
            lambda seen: seen.status in ENDS,
            seconds,
        )

    def looking(
        self, seen: T, look: Callable[[float], ApiCall[T]], is_over: Callable[[T], bool], seconds: float
    ) -> Plan[T]:
        """The same for whatever is looked at by a call that waits so many seconds."""
        deadline = Deadline.after(seconds, self._clock)
        looks = 0
        while not is_over(seen) and (looks == 0 or not deadline.expired):
            looks += 1
            wait = min(deadline.remaining, _WAIT_SECONDS)
            answer_due = Deadline.after(wait, self._clock)
            seen = yield from self.patiently(look(wait), deadline)
            if not is_over(seen) and not answer_due.expired:
                yield Pause(min(_LOOK_AGAIN.ceiling(looks), deadline.remaining))
        return seen

    def _pause(self, error: ApiError | Unreachable, failures: int) -> float:
        """As long as the service says, and by chance a little more, lest all come back at once."""
        asked = error.retry_after if isinstance(error, ApiError) else None
        return (asked or 0.0) + _BACKOFF.delay(failures, self._rng)


def _may_repeat(call: ApiCall[Any], error: ApiError | Unreachable) -> bool:
    """Whether the call may be made once more: nobody has begun it, or two are as good as one."""
    if isinstance(error, Unreachable) and not error.sent:
        return True
    if isinstance(error, Busy) and error.is_told:
        return True
    return call.repeatable and _may_pass(error)


def _may_pass(error: ApiError | Unreachable) -> bool:
    """Whether it is the way or the machines that failed, and not the call."""
    return error.retryable


def follow(plan: Plan[T], send: Callable[[Send[Any]], Any], sleep: Callable[[float], None]) -> T:
    """Does what the plan says, and gives what it ends with."""
    try:
        step = next(plan)
        while True:
            try:
                answer = None
                if isinstance(step, Send):
                    answer = send(step)
                else:
                    sleep(step.seconds)
            except GiftyComputeError as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found


async def follow_async(
    plan: Plan[T], send: Callable[[Send[Any]], Awaitable[Any]], sleep: Callable[[float], Awaitable[None]]
) -> T:
    """The same, awaiting."""
    try:
        step = next(plan)
        while True:
            try:
                answer = await (send(step) if isinstance(step, Send) else sleep(step.seconds))
            except GiftyComputeError as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found
