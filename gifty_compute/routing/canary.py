"""Canaries: a provider joins a space only when it gives the vectors that the space is known by.

Vectors of another space have the right form and are wrong all the same; only a comparison tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from gifty_compute.arrays import np
from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import GiftyComputeError
from gifty_compute.logic.logic import Logic, Model
from gifty_compute.logic.reference import Reference
from gifty_compute.providers.base import Reply
from gifty_compute.routing.call import Answer, Call
from gifty_compute.routing.guard import Candidate, Outcome, Wait

__all__ = ["Canaries", "Standing", "canary_call"]

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 1.0
_ATTEMPT_SECONDS = 30.0
# An unproven provider that did not answer is asked again after this.
_AGAIN_SECONDS = 10.0


class Standing(StrEnum):
    """Of a provider in a space."""

    UNPROVEN = "unproven"
    PROVEN = "proven"
    DRIFTED = "drifted"


_WHY = {
    Standing.UNPROVEN: "not yet proven to be in its space",
    Standing.DRIFTED: "its vectors are of another space",
}


class _Asker(Protocol):
    """What the router lends: a way to ask one provider, past all guards and stages."""

    def candidates(self, call: Call) -> list[Candidate]: ...

    def attempt(self, call: Call, candidate: Candidate, deadline: Deadline) -> tuple[Answer, Reply]: ...


@dataclass(frozen=True)
class _Look:
    standing: Standing
    next_at: float
    reference: Reference


class Canaries:
    """A guard of all spaces that have a reference, and the thread that looks at their providers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._asked: set[str] = set()
        self._joined: set[str] = set()
        """Who answered while the space had no reference."""
        self._stop, self._wake = threading.Event(), threading.Event()

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        reference = call.logic.references.get(call.space)
        if reference is None:
            return None
        look = self._looks.get(candidate.circuit)
        if look is None or look.reference != reference:
            if candidate.circuit not in self._asked:
                self._wake.set()
            # Who was in before there was a reference stays until it is known: naming one fails no request.
            known = look is None and candidate.circuit in self._joined
            return None if known else Wait(_PERIOD_SECONDS, _WHY[Standing.UNPROVEN])
        if look.standing is Standing.PROVEN:
            return None
        seconds = max(_PERIOD_SECONDS, look.next_at - self._clock.monotonic())
        return Wait(seconds, _WHY[look.standing])

    def enter(self, candidate: Candidate, call: Call) -> bool:
        return self.wait(candidate, call) is None

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None:
        """Notes who is in; what an answer is worth shows only in a comparison, which is made elsewhere."""
        if call.space and outcome.reply is not None and call.space not in call.logic.references:
            self._joined.add(candidate.circuit)

    def standings(self) -> dict[str, Standing]:
        """By (provider, key, kind), of every provider that is watched now and was looked at."""
        return {name: look.standing for name, look in self._looks.items()}

    def look(self, logic: Logic, asker: _Asker) -> list[threading.Thread]:
        """Begins to ask every provider whose time has come for the canaries of its space.

        All at once, each in a thread that ends when its answer is known: one that hangs keeps nobody out.
        """
        begun, watched = [], set()
        for name, section in logic.file.models.items():
            reference = logic.references.get(section.space or "")
            if reference is None or "embedding" not in section.kinds:
                continue
            call = canary_call(logic, Model(name, section), reference.texts, self._clock)
            for candidate in asker.candidates(call):
                watched.add(candidate.circuit)
                if self._is_due(candidate, reference):
                    arguments = (call, candidate, asker, reference)
                    thread = threading.Thread(
                        target=self._compare, args=arguments, name="canary", daemon=True
                    )
                    self._asked.add(candidate.circuit)
                    thread.start()
                    begun.append(thread)
        for circuit in set(self._looks) - watched:
            # Its address, id or space was edited: what it was is no trouble any more.
            self._looks.pop(circuit)
        return begun

    def start(self, logic: Callable[[], Logic], asker: _Asker) -> None:
        """Looks again and again, in a thread of its own."""
        threading.Thread(target=self._run, args=(logic, asker), name="canaries", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def _run(self, logic: Callable[[], Logic], asker: _Asker) -> None:
        while True:
            try:
                self.look(logic(), asker)
            except Exception:  # a fault of ours must not end the watch over wrong vectors
                log.exception("the canaries could not be looked at")
            self._wake.wait(_PERIOD_SECONDS)
            self._wake.clear()
            if self._stop.is_set():
                return

    def _is_due(self, candidate: Candidate, reference: Reference) -> bool:
        if candidate.circuit in self._asked:
            return False
        before = self._looks.get(candidate.circuit)
        return before is None or before.reference != reference or self._clock.monotonic() >= before.next_at

    def _compare(self, call: Call, candidate: Candidate, asker: _Asker, reference: Reference) -> None:
        name, now = candidate.circuit, self._clock.monotonic()
        before = self._looks.get(name)
        if before is not None and before.reference != reference:
            before = None
        try:
            standing, seconds = self._found(call, candidate, asker, reference, before)
            self._looks[name] = _Look(standing, now + seconds, reference)
            self._joined.discard(name)
        finally:
            self._asked.discard(name)

    def _found(
        self, call: Call, candidate: Candidate, asker: _Asker, reference: Reference, before: _Look | None
    ) -> tuple[Standing, float]:
        """How the provider stands now, and after how many seconds it is to be looked at again."""
        name, deadline = candidate.circuit, Deadline.after(_ATTEMPT_SECONDS, self._clock)
        try:
            answer, _ = asker.attempt(replace(call, deadline=deadline), candidate, deadline)
        except GiftyComputeError as error:
            log.warning("canaries of %s are unknown: %s", name, error.for_operators)
            return (before.standing if before else Standing.UNPROVEN), _AGAIN_SECONDS
        least = least_cosine(answer.result["embeddings"], reference)
        good = least >= call.logic.space(call.space).min_cosine
        if not good:
            log.error("%s is not in space %s: a canary is at cosine %.3f", name, call.space, least)
        elif before is None or before.standing is not Standing.PROVEN:
            log.info("%s has proven to be in space %s: cosine %.4f", name, call.space, least)
        return (Standing.PROVEN if good else Standing.DRIFTED), call.logic.file.routing.canary_seconds


def canary_call(logic: Logic, model: Model, texts: tuple[str, ...], clock: Clock) -> Call:
    """The call for these texts as passages."""
    payload = {"texts": list(texts), "model": model.name, "input_type": "passage"}
    deadline = Deadline.after(_ATTEMPT_SECONDS, clock)
    return Call(logic, "embedding", model, payload, deadline, request_id="canary", client="gifty:canary")


def least_cosine(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]], reference: Reference) -> float:
    """The smallest cosine between a vector and its reference."""
    known = np.frombuffer(reference.vectors, dtype="<f4").reshape(-1, reference.dim).astype(np.float64)
    ours = vectors.astype(np.float64)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(known, axis=1)
    return float(((ours * known).sum(axis=1) / norms).min())
