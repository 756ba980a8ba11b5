"""Recording the reference vectors of a space from a provider that is trusted."""

from __future__ import annotations

from pathlib import Path

from gifty_compute.arrays import np
from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import InvalidConfig
from gifty_compute.high import HighRoad
from gifty_compute.logic.logic import Logic, Model
from gifty_compute.logic.reference import CANARY_TEXTS, Reference, write_reference
from gifty_compute.routing.canary import canary_call

__all__ = ["record"]

_SECONDS = 120.0


def record(logic: Logic, high: HighRoad, clock: Clock, *, space: str, provider: str, path: Path) -> Reference:
    """Asks this provider for the canary texts and writes what it gave.

    Raises InvalidConfig when the provider cannot be asked for this space, and whatever its answer raises.
    """
    for name, section in logic.file.models.items():
        if section.space != space or "embedding" not in section.kinds:
            continue
        call = canary_call(logic, Model(name, section), CANARY_TEXTS, clock)
        for candidate in high.router.candidates(call):
            if candidate.name == provider:
                answer, _ = high.router.attempt(call, candidate, Deadline.after(_SECONDS, clock))
                vectors = np.ascontiguousarray(answer.result["embeddings"], dtype="<f4")
                reference = Reference(space, CANARY_TEXTS, vectors.shape[1], vectors.tobytes())
                now = clock.now().isoformat(timespec="seconds")
                write_reference(path, reference, provider=provider, recorded_at=now)
                return reference
    raise InvalidConfig(f"{provider} cannot be asked for space {space}: not offered by logic.yaml, or no key")
