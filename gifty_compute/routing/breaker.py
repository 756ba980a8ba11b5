"""Circuit breakers: a provider that fails again and again is left alone for a while, then tried once.

closed -> open       after so many failures in a row; at once for an error that only the operator can mend,
                     and for as long as a provider's Retry-After says
open -> half-open    when its time is over: one trial is let through
half-open -> closed  when the trial succeeds; -> open when it fails
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Protocol

from gifty_compute.clock import Clock
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.file import BreakerSection
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate, Outcome

__all__ = ["Breakers", "Circuit", "Marks"]

log = logging.getLogger(__name__)

# A trial whose caller vanished is given up after this.
_TRIAL_SECONDS = 30.0
# While another process makes the trial, this one looks again after this.
_LOOK_SECONDS = 1.0
# A provider that asks for longer is tried again after this all the same: one refused call costs little.
_LONGEST_SECONDS = 300.0
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

    def open(self, name: str, seconds: float) -> None:
        """Tells the others; a trial that was made is over."""
        ...

    def close(self, name: str) -> None:
        """Tells the others; a trial that was made is over."""
        ...

    def give_up(self, name: str) -> None:
        """Tells the others that the trial showed nothing, so that another may be made."""
        ...

    def trial(self, name: str, seconds: float) -> bool:
        """Whether the one half-open trial of all processes is ours, for so many seconds."""
        ...


@dataclass
class Circuit:
    """One circuit's state; moments are of the monotonic clock."""

    failures: int = 0
    open_until: float = 0.0
    trial_until: float = 0.0

    @property
    def closed(self) -> bool:
        return self.open_until == 0.0

    def wait(self, now: float) -> float:
        """Seconds until an attempt may begin: 0 where closed, or half-open with its trial untaken."""
        return max(0.0, self.open_until - now, self.trial_until - now)

    def begin_trial(self, now: float) -> None:
        """It is half-open, also if it was another process that opened it, and this is its trial."""
        self.open_until = self.open_until or now
        self.trial_until = now + _TRIAL_SECONDS

    def succeed(self) -> None:
        self.failures, self.open_until, self.trial_until = 0, 0.0, 0.0

    def fail(self, error: ProviderError, now: float, section: BreakerSection) -> float:
        """Counts a failure; the seconds for which the circuit is open now, 0 where it stays closed."""
        self.failures += 1
        was_half_open, self.trial_until = not self.closed, 0.0
        seconds = 0.0
        if error.failure is Failure.CONFIG:
            seconds = section.config_seconds
        elif error.retry_after is not None:
            seconds = min(error.retry_after, _LONGEST_SECONDS)
        elif was_half_open or self.failures >= section.failures:
            seconds = section.open_seconds
        if seconds > 0:
            self.open_until = max(self.open_until, now + seconds)
        return seconds


class Breakers:
    """One circuit for each (provider, key, kind); an edited address or model id begins with a new one."""

    def __init__(self, clock: Clock, marks: Marks) -> None:
        self._clock = clock
        self._marks = marks
        self._circuits: dict[str, Circuit] = {}
        self._lock = threading.Lock()

    def wait(self, candidate: Candidate, call: Call) -> float | None:
        name = candidate.circuit
        circuit = self._circuits.get(name)
        own = circuit.wait(self._clock.monotonic()) if circuit is not None else 0.0
        return max(own, self._marks.remaining(name)) or None

    def enter(self, candidate: Candidate, call: Call) -> bool:
        name = candidate.circuit
        with self._lock:
            circuit = self._circuits.get(name)
            if (circuit is None or circuit.closed) and not self._marks.half_open(name):
                return True
            now = self._clock.monotonic()
            circuit = self._remembered(name)
            if circuit.wait(now) > 0:
                return False
            circuit.begin_trial(now)
        if self._marks.trial(name, _TRIAL_SECONDS):
            return True
        with self._lock:
            circuit.trial_until = now + _LOOK_SECONDS
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
            seconds = self._remembered(name).fail(error, now, section)
        if seconds > 0:
            level = logging.ERROR if error.failure is Failure.CONFIG else logging.WARNING
            log.log(level, "circuit %s is open for %.0f s: %s", name, seconds, error.code)
            self._marks.open(name, seconds)

    def states(self) -> dict[str, str]:
        """closed, open or half-open, for every circuit that ever saw a failure."""
        now = self._clock.monotonic()
        with self._lock:
            circuits = dict(self._circuits)
        return {
            name: "closed" if c.closed else "open" if c.open_until > now else "half-open"
            for name, c in circuits.items()
        }

    def _remembered(self, name: str) -> Circuit:
        """The circuit of this name; a new one takes the place of the one that is, or was, open least long."""
        circuit = self._circuits.get(name)
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


def _tells(error: ProviderError, seconds: float, call: Call) -> bool:
    if error.code == "stream_too_long":
        # Our own bound; the provider was sending.
        return False
    if error.code != "timeout":
        return True
    return seconds >= _TELLING_SHARE * call.logic.section(call.kind).timeout_ms / 1000
