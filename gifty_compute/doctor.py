"""One tiny real call to every provider that is configured, and how it went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import GiftyComputeError
from gifty_compute.high import HighRoad
from gifty_compute.logic.logic import KINDS, Logic, Model
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate

__all__ = ["Finding", "unasked", "visit"]

_SECONDS = 30.0
_WORK: dict[str, dict[str, Any]] = {
    "embedding": {"texts": ["чайник"]},
    "rerank": {"query": "подарок рыбаку", "documents": ["удочка", "губная помада"]},
    "classify": {
        "external_names": ["Удочки"],
        "internal_categories": [{"id": 1, "name": "Рыбалка"}, {"id": 2, "name": "Косметика"}],
    },
    "score": {"products": [{"title": "Набор блёсен в деревянной коробке"}]},
    "llm": {"messages": [{"role": "user", "content": "Ответь одним словом: да."}], "max_tokens": 200},
}


@dataclass(frozen=True)
class Finding:
    """One call: who, by which key, for what, and how it went."""

    provider: str
    key: str
    kind: str
    model: str
    seconds: float
    cost_usd: float | None
    error: GiftyComputeError | None


def visit(logic: Logic, high: HighRoad, clock: Clock) -> Iterator[Finding]:
    """Asks each provider of each route with each of its keys once, past caches and circuits.

    One that has a key and stands in no route is asked for something that it serves. It costs a fraction of a
    cent, and wakes sleeping GPUs.
    """
    asked = set()
    for kind in KINDS:
        call = _call(logic, kind, logic.model(kind, None), clock)
        for candidate in high.router.candidates(call):
            asked.add(candidate.name)
            yield _ask(call, candidate, high, clock)
    for call in _beside_the_routes(logic, clock):
        for candidate in high.router.candidates(call):
            if candidate.name not in asked and candidate.site.key:
                asked.add(candidate.name)
                yield _ask(call, candidate, high, clock)


def _beside_the_routes(logic: Logic, clock: Clock) -> Iterator[Call]:
    """A call for every model that there is; of language models one for each provider."""
    for name, section in logic.file.models.items():
        for kind in section.kinds:
            names = [f"{provider}/{name}" for provider in section.providers] if kind == "llm" else [name]
            for each in names:
                yield _call(logic, kind, logic.model(kind, each), clock)


def _call(logic: Logic, kind: str, model: Model, clock: Clock) -> Call:
    placed = logic.place(kind, {**_WORK[kind], "model": model.name})
    return Call(logic, kind, model, placed, Deadline.after(_SECONDS, clock), request_id="doctor")


def _ask(call: Call, candidate: Candidate, high: HighRoad, clock: Clock) -> Finding:
    deadline = Deadline.after(_SECONDS, clock)
    began, error, cost = clock.monotonic(), None, None
    try:
        answer, _ = high.router.attempt(replace(call, deadline=deadline), candidate, deadline)
        cost = answer.cost_usd
    except GiftyComputeError as failed:
        error = failed
    seconds = clock.monotonic() - began
    offer, site = candidate.offer, candidate.site
    return Finding(offer.provider, site.key_label, call.kind, offer.model_id, seconds, cost, error)


def unasked(logic: Logic, high: HighRoad) -> list[tuple[str, str]]:
    """The providers of the routes that cannot be asked, each with the variable that is missing."""
    found: dict[str, str] = {}
    for kind in KINDS:
        for offer in logic.offers(kind, logic.model(kind, None)):
            missing = high.access.lacks(offer)
            if missing is not None:
                found[offer.provider] = missing
    return sorted(found.items())
