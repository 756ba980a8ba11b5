"""The router: asks a route's providers in order, within one deadline, and checks what they answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.errors import DeadlineExceeded, GiftyComputeError, InvalidRequest, NoRoute
from gifty_compute.logic.logic import Logic
from gifty_compute.providers.base import Provider
from gifty_compute.wire.kinds import KINDS

__all__ = ["Answer", "Router"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A checked result, who gave it, and how many were asked."""

    result: dict[str, Any]
    provider: str
    attempts: int
    usage: dict[str, int] | None
    """prompt_tokens and total_tokens as the provider counted them; None where it does not."""


class Router:
    """Knows the providers by name; the Logic of each call says which of them, and in what order."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    def run(self, logic: Logic, kind: str, payload: dict[str, Any], deadline: Deadline) -> Answer:
        """The first valid answer of the route for this kind and the payload's model.

        Raises InvalidRequest (not_served) when no provider of the route does this, DeadlineExceeded when time
        is over, and NoRoute naming each provider's error when all of them failed.
        """
        model = logic.model(kind, payload["model"])
        route = logic.route(kind)
        able = [
            provider
            for provider in (self._providers[name] for name in route if name in self._providers)
            if provider.serves(kind, model)
        ]
        if not able:
            named = ", ".join(route) or "no provider"
            message = f"{kind} with {model.name!r} is routed to {named}, which this service cannot ask for it"
            raise InvalidRequest(message, param="model", code="not_served")
        expected = logic.expected(kind, model.name)
        failures: list[tuple[str, str]] = []
        refusal: InvalidRequest | None = None
        for attempts, provider in enumerate(able, start=1):
            if deadline.expired:
                break
            try:
                raw = provider.run(kind, model, payload, deadline)
                checked = KINDS[kind].check(payload, raw, expected)
                return Answer(checked, provider.name, attempts, raw.get("usage"))
            except DeadlineExceeded:
                raise
            except InvalidRequest as error:
                refusal = error
            except GiftyComputeError as error:
                log.warning("provider %s failed: %s", provider.name, error.code)
                failures.append((provider.name, error.code))
        if refusal is not None and not failures:
            raise refusal
        if deadline.expired:
            raise DeadlineExceeded
        told = "; ".join(f"{name}: {code}" for name, code in failures)
        raise NoRoute(f"every provider failed: {told}", code=failures[-1][1])
