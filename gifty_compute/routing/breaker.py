"""Circuit breakers: a provider that fails again and again is left alone for a while, then tried once.

closed -> open       after so many failures in a row; at once for an error that only the operator can mend,
                     and for as long as a provider's Retry-After says
open -> half-open    when its time is over: one trial is let through
half-open -> closed  when the trial succeeds; -> open when it fails
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from typing import Protocol

from gifty_compute.clock import Clock
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.routing.call import Call
from gifty_compute.routing.circuit import LOOK_SECONDS, TRIAL_SECONDS, Cause, Circuit
from gifty_compute.routing.guard import Candidate, Outcome, Wait
from gifty_compute.wire.circuit import CircuitState

__all__ = ["Breakers", "Marks"]

log = logging.getLogger(__name__)

# Callers name models, and a name that nobody serves fails: what is remembered of circuits has an end.
_MOST_CIRCUITS = 1000
# A caller with very little time learns nothing about the provider: its timeout counts only if the attempt had
# at least this share of what the kind is given by default.
_TELLING_SHARE = 0.2


class Marks(Protocol):
    """What the other processes of the service know about open circuits. Never raises; only `trial` may wait,
    and not long. What is told to the others they see a moment later."""

    def remaining(self, name: str) -> float:
        """Seconds for which another process says that this circuit is open; 0 where none does."""
        ...

    def half_open(self, name: str) -> bool:
        """Whether some process opened this circuit, its time is over, and nobody has closed it yet."""
        ...

    def cause(self, name: str) -> str:
        """The cause that came with the mark that this process knows; empty where there is none."""
        ...

    def names(self) -> list[str]:
        """The circuits that some process says are open, or half-open."""
        ...

    def open(self, name: str, seconds: float, cause: str = "") -> None:
        """Tells the other processes, and the cause; a trial that was made is over."""
        ...

    def close(self, name: str) -> None:
        """Tells the others; a trial that was made is over."""
        ...

    def reset(self, name: str) -> None:
        """Closes it for all processes, also for those whose own failures opened it before this moment."""
        ...

    def was_reset(self, name: str, since: float) -> bool:
        """Whether some process has reset it after this moment of the monotonic clock."""
        ...

    def give_up(self, name: str) -> None:
        """Tells the others that the trial showed nothing, so that another may be made."""
        ...

    def trial(self, name: str, seconds: float) -> bool:
        """Whether the one half-open trial of all processes is ours, for so many seconds."""
        ...


class Breakers:
    """One circuit for each (provider, key, kind); an edited address or model id begins with a new one."""

    def __init__(self, clock: Clock, marks: Marks) -> None:
        self._clock = clock
        self._marks = marks
        self._circuits: dict[str, Circuit] = {}
        self._lock = threading.Lock()

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        name = candidate.circuit
        circuit = self._known(name)
        own = circuit.wait(self._clock.monotonic()) if circuit is not None else 0.0
        seconds = max(own, self._marks.remaining(name))
        return Wait(seconds, self._cause(name, circuit).told) if seconds else None

    def enter(self, candidate: Candidate, call: Call) -> bool:
        name = candidate.circuit
        with self._lock:
            circuit = self._known(name)
            if (circuit is None or circuit.closed) and not self._marks.half_open(name):
                return True
            now = self._clock.monotonic()
            circuit = self._remembered(name)
            if circuit.wait(now) > 0:
                return False
            circuit.begin_trial(now)
        if self._marks.trial(name, TRIAL_SECONDS):
            return True
        with self._lock:
            circuit.trial_until = now + LOOK_SECONDS
        return False

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        name, error = candidate.circuit, outcome.error
        if error is not None and not _tells(error, outcome.seconds, call):
            self._give_up(name)
            return
        if error is None or error.failure is Failure.FATAL:
            # A refusal, too, is the answer of a provider that works.
            self._close(name)
            return
        now, section = self._clock.monotonic(), call.logic.file.routing.breaker
        with self._lock:
            circuit = self._remembered(name)
            seconds = circuit.fail(error, now, section)
            cause = circuit.cause or Cause(error.code)
        if seconds > 0:
            level = logging.ERROR if error.failure is Failure.CONFIG else logging.WARNING
            about = {key: value for key, value in asdict(cause).items() if value is not None}
            log.log(level, "circuit %s is open for %.0f s: %s", name, seconds, error.code, extra=about)
            self._marks.open(name, seconds, cause.written())

    def close(self, name: str) -> list[str]:
        """Closes the circuit of this name, or all of the provider of this name, in all processes.

        The names of those that were open or half-open; the other processes follow within a second.
        """
        known = {one.circuit for one in self.all() if one.state != "closed"}
        found = sorted(one for one in known if name in (one, _provider(one)))
        for one in found:
            with self._lock:
                if one in self._circuits:
                    self._circuits[one].succeed()
            self._marks.reset(one)
        return found

    def all(self) -> list[CircuitState]:
        """Every circuit that is open or half-open, here or elsewhere, or whose last attempt failed."""
        with self._lock:
            names = sorted({*self._circuits, *self._marks.names()})
            states = [self._state(name) for name in names]
        return [one for one in states if one.state != "closed" or one.failures]

    def states(self) -> dict[str, str]:
        """closed, open or half-open, for every circuit that ever saw a failure."""
        now = self._clock.monotonic()
        with self._lock:
            circuits = dict(self._circuits)
        return {
            name: "closed" if c.closed else "open" if c.open_until > now else "half-open"
            for name, c in circuits.items()
        }

    def _state(self, name: str) -> CircuitState:
        circuit, now = self._known(name), self._clock.monotonic()
        own = circuit.wait(now) if circuit is not None else 0.0
        seconds = max(own, self._marks.remaining(name))
        is_closed = (circuit is None or circuit.closed) and not self._marks.half_open(name)
        cause = self._cause(name, circuit)
        has_cause = not is_closed or seconds > 0 or (circuit is not None and circuit.failures > 0)
        return CircuitState(
            circuit=name,
            provider=_provider(name),
            state="open" if seconds else "closed" if is_closed else "half-open",
            seconds_left=round(seconds, 1),
            failures=cause.failures if has_cause else 0,
            code=cause.code if has_cause else None,
            status=cause.status if has_cause else None,
            reason=cause.reason if has_cause else None,
        )

    def _known(self, name: str) -> Circuit | None:
        """The circuit as this process knows it, closed if it was reset since its last failure."""
        circuit = self._circuits.get(name)
        if circuit is not None and not circuit.closed and self._marks.was_reset(name, circuit.failed_at):
            circuit.succeed()
        return circuit

    def _cause(self, name: str, circuit: Circuit | None) -> Cause:
        """Of one that is open: by its own failures, else by the word of another process."""
        own = circuit.cause if circuit is not None else None
        return own or Cause.read(self._marks.cause(name))

    def _remembered(self, name: str) -> Circuit:
        """The circuit of this name; a new one takes the place of the one that is, or was, open least long."""
        circuit = self._known(name)
        if circuit is None:
            if len(self._circuits) >= _MOST_CIRCUITS:
                del self._circuits[min(self._circuits, key=lambda known: self._circuits[known].open_until)]
            circuit = self._circuits[name] = Circuit()
        return circuit

    def _close(self, name: str) -> None:
        if name not in self._circuits:
            return
        with self._lock:
            circuit = self._remembered(name)
            was_closed = circuit.closed
            circuit.succeed()
        if not was_closed:
            log.info("circuit %s is closed", name)
            self._marks.close(name)

    def _give_up(self, name: str) -> None:
        """If the attempt was a trial, another may be made."""
        with self._lock:
            circuit = self._circuits.get(name)
            if circuit is None or not circuit.trial_until:
                return
            circuit.trial_until = 0.0
        self._marks.give_up(name)


def _provider(circuit: str) -> str:
    return circuit.rsplit("/", 3)[0]


def _tells(error: ProviderError, seconds: float, call: Call) -> bool:
    if error.is_load or error.code == "stream_too_long":
        # Our own load and our own bound: they say nothing of the provider.
        return False
    if error.code != "timeout":
        return True
    return seconds >= _TELLING_SHARE * call.logic.section(call.kind).timeout_ms / 1000
