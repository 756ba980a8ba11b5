"""A call: one piece of high-priority work on its way through the router, and the answer it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gifty_compute.clock import Deadline
from gifty_compute.logic.logic import Logic, Model
from gifty_compute.logic.timeouts import timeouts_of
from gifty_compute.providers.base import Usage

__all__ = ["Answer", "Call", "Next", "Stage"]


@dataclass(frozen=True)
class Call:
    """What is asked for, by the logic that was in force when it came."""

    logic: Logic
    kind: str
    model: Model
    payload: dict[str, Any] = field(repr=False)
    """Placed: model, input type and categories are filled in."""
    deadline: Deadline
    """Of all attempts together."""
    request_id: str = ""
    client: str = ""
    """The name of the client that asks; a name of ours (with a colon, as no client's) for work of our own."""
    never: frozenset[str] = frozenset()
    """Providers that must not be asked: a facade that asked us would be asked back."""
    last: frozenset[str] = frozenset()
    """Providers that are asked only after all others: they are being asked already."""
    attempt_seconds: float | None = None
    """The most of one attempt while another candidate could be asked; None: its share of the deadline."""
    is_stream: bool = False
    """Whether the answer is wanted piece by piece."""
    silence_seconds: float | None = None
    """The longest silence of a stream; None: as long as the whole call may take."""
    dropped: threading.Event | None = None
    """Set when nobody wants the answer any more: no further attempt is made then."""

    @property
    def space(self) -> str:
        """The name of the vectors' space; empty for work that makes none."""
        return (self.model.space or "") if self.kind == "embedding" else ""

    def with_texts(self, texts: list[str]) -> Call:
        """The same embedding call for other texts; an attempt has the time that these need."""
        payload = {key: value for key, value in self.payload.items() if key != "ids"}
        payload["texts"] = texts
        seconds = self.attempt_seconds
        if seconds is not None:
            seconds = timeouts_of(self.logic.section(self.kind), payload, None).attempt
        return replace(self, payload=payload, attempt_seconds=seconds)


@dataclass(frozen=True)
class Answer:
    """A checked result, who gave it, and what it took."""

    result: dict[str, Any] = field(repr=False)
    """As the kind's check leaves it; `embeddings` is an array [texts, dim]."""
    provider: str
    attempts: int
    usage: Usage | None = None
    """None where the provider does not count, or not all of the answer was counted."""
    cost_usd: float | None = None
    """None where it is not known."""
    cached: bool = False
    """Whether all of it came from the cache."""


Next = Callable[[Call], Answer]


class Stage(Protocol):
    """Something that a call passes on its way to the providers, and its answer on the way back.

    Each stage looks in `call.logic.file.routing` whether it is switched on and lets the call pass if not, so
    any of them can be left out of the router's list.
    """

    def run(self, call: Call, then: Next) -> Answer:
        """The answer; `then` asks the rest of the way. Raises what `then` raises."""
        ...
