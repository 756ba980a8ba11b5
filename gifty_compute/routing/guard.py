"""The protocols of guards and observers: who may be asked now, and what is learnt from how it went."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from gifty_compute.errors import ProviderError
from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Reply, Site
from gifty_compute.routing.call import Call

__all__ = ["Candidate", "Guard", "Observer", "Outcome", "Wait"]


@dataclass(frozen=True)
class Candidate:
    """A provider, by one of its keys, that could do the call."""

    offer: Offer
    site: Site

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.offer.provider

    @cached_property
    def circuit(self) -> str:
        """The name of its circuit, the same in all processes; it holds no key.

        An edited address, model id or key makes another circuit of it. Of the key it shows a part of a hash.
        """
        offer, site = self.offer, self.site
        what = f"{site.base_url} {offer.model_id} {site.key}"
        where = hashlib.blake2b(what.encode(errors="surrogateescape"), digest_size=4).hexdigest()
        return f"{offer.provider}/{site.key_label or '-'}/{offer.ask_as}/{where}"


@dataclass(frozen=True)
class Outcome:
    """How one attempt went; `seconds` of it passed. Exactly one of reply and error is there."""

    seconds: float
    reply: Reply | None = None
    error: ProviderError | None = None
    first_seconds: float | None = None
    """Of a stream that had begun: after how many seconds the provider first sent something."""


class Wait(NamedTuple):
    """How long a candidate must be left alone, and why. Callers may read both."""

    seconds: float
    reason: str
    """Codes of ours, counts and limits; never a provider's own words."""


class Observer(Protocol):
    """Learns how every attempt went."""

    def left(self, candidate: Candidate, call: Call, outcome: Outcome) -> None: ...


class Guard(Observer, Protocol):
    """Decides on (provider, key, kind); called by many threads at once, and never waits for a network."""

    def wait(self, candidate: Candidate, call: Call) -> Wait | None:
        """How long the candidate must be left alone, and why; None where it may be asked now."""
        ...

    def enter(self, candidate: Candidate, call: Call) -> bool:
        """Whether this attempt may begin; what is rare (a half-open circuit's one trial) is taken by it."""
        ...
