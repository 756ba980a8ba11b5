"""The walk: from candidate to candidate, within one deadline, until one attempt succeeds.

This is the only retry loop of the high road. Whatever happens, it ends by the call's deadline.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Deadline
from gifty_compute.errors import (
    DeadlineExceeded,
    Failure,
    InvalidRequest,
    NoRoute,
    ProviderError,
    ProvidersLimited,
    Unavailable,
)
from gifty_compute.providers.base import Reply
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Guard, Observer, Outcome, Wait

__all__ = ["Success", "Walk", "log_failure"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# Before the one retry at the same provider, where it does not say itself how long to wait.
_PAUSE = Backoff(base=0.1, cap=0.1)
# A Retry-After is waited out by the call itself up to this, and up to this share of the time that is left.
_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_SHARE = 2.0, 0.25
# Where every provider is at its limit and none says for how long.
_UNTOLD_WAIT_SECONDS = 1.0
# A provider's word that the request is bad is believed when a second one says so.
_OPINIONS = 2


@dataclass(frozen=True)
class Success(Generic[T]):
    """What the attempt gave, by whom, as which attempt."""

    value: T
    candidate: Candidate
    attempts: int


@dataclass
class Walk(Generic[T]):
    """One call's way; the guards are among the observers.

    `attempt` gives what an attempt is worth and the reply that the guards learn from; without a reply the
    attempt goes on, and whoever ends it tells the guards.
    """

    call: Call
    candidates: Sequence[Candidate]
    guards: Sequence[Guard]
    observers: Sequence[Observer]
    attempt: Callable[[Candidate, Deadline], tuple[T, Reply | None]]
    rng: Random
    attempts: int = 0
    _errors: list[tuple[str, ProviderError]] = field(default_factory=list)
    _due: list[tuple[float, Candidate]] = field(default_factory=list)
    """The candidates that asked for time, each with the moment from which it may be asked again."""
    _refusal: InvalidRequest | None = None
    _timed_out: bool = False
    """Whether the last attempt had all the time that was left, and used it up."""

    def run(self) -> Success[T]:
        """The first success.

        Raises DeadlineExceeded, InvalidRequest (the request is bad by the word of two providers, or of the
        only one), ProvidersLimited (all are at their rate limit), Unavailable (all that remain must be left
        alone for a while), or NoRoute.
        """
        for position, candidate in enumerate(self.candidates):
            if self._over():
                break
            value = self._ask(candidate, others=self.candidates[position + 1 :])
            if value is not None:
                return Success(value[0], candidate, self.attempts)
            if self._condemned():
                break
        else:
            waited = self._wait_for_the_soonest()
            value = self._ask(waited, others=()) if waited is not None else None
            if waited is not None and value is not None:
                return Success(value[0], waited, self.attempts)
        raise self._end()

    def _wait_for_the_soonest(self) -> Candidate | None:
        """The candidate that asked for the shortest time, after that time; None where it is not waited for.

        It is waited for only after all others failed, and only for a short time. Where several candidates
        were asked and all are at their limit, the caller can wait for itself and is told at once.
        """
        others_failed = len(self._errors) == 1 or not self._all_limited()
        if not self._due or self._over() or not others_failed:
            return None
        at, candidate = min(self._due, key=lambda due: due[0])
        clock = self.call.deadline.clock
        pause = max(0.0, at - clock.monotonic())
        if not self._is_short(pause):
            return None
        clock.sleep(pause)
        return candidate

    def _is_short(self, pause: float) -> bool:
        longest = min(_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_SHARE * self.call.deadline.remaining)
        return pause <= longest

    def _ask(self, candidate: Candidate, others: Sequence[Candidate]) -> tuple[T] | None:
        """A tuple with what an attempt at this candidate gave; None where it gave nothing."""
        while not self._over() and self._enter(candidate):
            deadline = self._share(others)
            error = None
            began = deadline.clock.monotonic()
            self.attempts += 1
            try:
                value, reply = self.attempt(candidate, deadline)
            except ProviderError as failed:
                error = failed
            except InvalidRequest as refused:
                # Ours: this provider can never take it. Nothing was sent, nothing is learnt.
                self._refusal = refused
                return None
            seconds = deadline.clock.monotonic() - began
            self._timed_out = error is not None and error.code == "timeout" and deadline is self.call.deadline
            if error is None:
                if reply is not None:
                    self._left(candidate, Outcome(seconds, reply=reply))
                return (value,)
            log_failure(candidate, self.call, error)
            again = self._pause_before_retry(candidate, error, deadline)
            told = self._note_wait(candidate, error, others)
            self._left(candidate, Outcome(seconds, error=told))
            self._errors.append((candidate.name, error))
            if again is None:
                return None
            deadline.clock.sleep(again)
        return None

    def _pause_before_retry(
        self, candidate: Candidate, error: ProviderError, deadline: Deadline
    ) -> float | None:
        """Seconds until the one retry at the same candidate; None where there is none.

        A candidate that asks for time is not waited for here: another one may answer sooner.
        """
        failed_before = any(name == candidate.name for name, _ in self._errors)
        if error.failure is not Failure.RETRY or failed_before or self._spent():
            return None
        pause = _PAUSE.delay(1, self.rng) if error.retry_after is None else None
        return pause if pause is not None and pause < deadline.remaining else None

    def _note_wait(
        self, candidate: Candidate, error: ProviderError, others: Sequence[Candidate]
    ) -> ProviderError:
        """Notes a Retry-After that may be waited out; the error as the guards are told of it."""
        failed_before = any(name == candidate.name for name, _ in self._errors)
        if error.failure is not Failure.RETRY or error.retry_after is None or failed_before:
            return error
        self._due.append((self.call.deadline.clock.monotonic() + error.retry_after, candidate))
        alone = not any(not self._wait(other) for other in others)
        # What the only candidate asked for, and this call waits out, must not open the circuit for all calls.
        return _without_wait(error) if alone and self._is_short(error.retry_after) else error

    def _enter(self, candidate: Candidate) -> bool:
        for guard in self.guards:
            if guard.wait(candidate, self.call):
                return False
        return all(guard.enter(candidate, self.call) for guard in self.guards)

    def _wait(self, candidate: Candidate) -> float:
        held = self._held_back(candidate)
        return held.seconds if held is not None else 0.0

    def _held_back(self, candidate: Candidate) -> Wait | None:
        """The longest wait that a guard asks for."""
        waits = (guard.wait(candidate, self.call) for guard in self.guards)
        return max((wait for wait in waits if wait is not None), default=None)

    def _left(self, candidate: Candidate, outcome: Outcome) -> None:
        for observer in self.observers:
            observer.left(candidate, self.call, outcome)

    def _share(self, others: Sequence[Candidate]) -> Deadline:
        """At most half of what is left, and `attempt_seconds`, while another one could still be asked."""
        last = not others or self._spent(ahead=1) or all(self._wait(other) for other in others)
        if last:
            return self.call.deadline
        share, most = self.call.deadline.share(0.5), self.call.attempt_seconds
        return (
            share if most is None else min(share, Deadline.after(most, share.clock), key=lambda one: one.at)
        )

    def _spent(self, ahead: int = 0) -> bool:
        return self.attempts + ahead >= self.call.logic.file.routing.max_attempts

    def _over(self) -> bool:
        dropped = self.call.dropped
        return self.call.deadline.expired or self._spent() or (dropped is not None and dropped.is_set())

    def _all_limited(self) -> bool:
        return bool(self._errors) and all(error.code == "rate_limited" for _, error in self._errors)

    def _condemned(self) -> bool:
        fatal = {name for name, error in self._errors if error.failure is Failure.FATAL}
        return len(fatal) >= _OPINIONS

    def _end(self) -> Exception:
        """What the caller is told when nobody answered."""
        failed = [f"{name}: {error.code}" for name, error in self._errors]
        told = "; ".join([*failed, *self._left_alone()]) or "no provider was asked"
        last = self._errors[-1][1] if self._errors else None
        fatal = [error for _, error in self._errors if error.failure is Failure.FATAL]
        if fatal and (self._condemned() or len(fatal) == len(self._errors)):
            code = "refused" if fatal[-1].code == "refused" else "rejected_by_provider"
            return InvalidRequest(f"the request was refused ({told})", code=code)
        if self._refusal is not None and not self._errors:
            return self._refusal
        if self.call.deadline.expired or self._timed_out:
            # A timeout may end the attempt a moment before the deadline that it was of.
            return DeadlineExceeded(f"no answer within the deadline ({told})")
        asked = {name: error.retry_after or 0.0 for name, error in self._errors if _may_recover(error)}
        waits = [max(self._wait(one), asked.get(one.name, 0.0)) for one in self.candidates]
        if self._all_limited():
            soonest = min(filter(None, waits), default=_UNTOLD_WAIT_SECONDS)
            return ProvidersLimited(f"every provider is at its limit ({told})", retry_after=soonest)
        asked_to_wait = all(error.retry_after is not None for _, error in self._errors)
        if asked_to_wait and waits and all(waits):
            held = self._left_alone(also_failed=True)
            told = "; ".join(held) if len(held) == len(self.candidates) else told
            return Unavailable(f"every provider must be left alone for now ({told})", retry_after=min(waits))
        return NoRoute(f"every provider failed ({told})", code=last.code if last else None)

    def _left_alone(self, *, also_failed: bool = False) -> list[str]:
        """Each candidate that a guard holds back now: by which name, why, for how many seconds more."""
        failed = set() if also_failed else {name for name, _ in self._errors}
        keys = Counter(candidate.name for candidate in self.candidates)
        found = []
        for candidate in self.candidates:
            held = None if candidate.name in failed else self._held_back(candidate)
            if held is not None:
                key = f" (key {candidate.site.key_label})" if keys[candidate.name] > 1 else ""
                found.append(f"{candidate.name}{key}: {held.reason}, {math.ceil(held.seconds)} s left")
        return found


def log_failure(candidate: Candidate, call: Call, error: ProviderError) -> None:
    """One line for an attempt that failed: all that an operator needs, and nothing of the payload."""
    about = {
        "provider": candidate.name,
        "key": candidate.site.key_label,
        "kind": call.kind,
        "model": candidate.offer.model_id,
        "code": error.code,
        "status": error.status,
        "retry_after": error.retry_after,
        # Without words of the provider's own, ours: which part of its answer was wrong.
        "reason": error.reason or error.message,
        "request_id": call.request_id,
    }
    known = {name: value for name, value in about.items() if value not in (None, "")}
    log.warning("provider %s failed: %s (%s)", candidate.name, error.code, error.failure, extra=known)


def _may_recover(error: ProviderError) -> bool:
    """Whether the same candidate may answer after the wait that it asks for, without a guard that says so."""
    return error.failure is Failure.RETRY or error.is_load


def _without_wait(error: ProviderError) -> ProviderError:
    return ProviderError(
        error.message, failure=error.failure, code=error.code, status=error.status, reason=error.reason
    )
