"""Calls, candidates and guards for the parts of the router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gifty_compute.clock import Deadline
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.base import Site
from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate
from tests.unit.conftest import HandClock

PAYLOADS: dict[str, dict[str, Any]] = {
    "embedding": {"texts": ["чайник"], "model": "bge-m3", "input_type": "passage"},
    "rerank": {"query": "чай", "documents": ["мёд", "кружка"], "model": "bge-reranker-v2-m3"},
    "llm": {"messages": [{"role": "user", "content": "Привет"}], "model": "fast"},
}


@pytest.fixture
def logic() -> Logic:
    return parse_logic("")


@pytest.fixture
def call(clock: HandClock, logic: Logic) -> Callable[..., Call]:
    def make(kind: str = "embedding", *, by: Logic = logic, seconds: float = 2.0, **fields: Any) -> Call:
        payload = fields.pop("payload", PAYLOADS[kind])
        deadline = Deadline.after(seconds, clock)
        return Call(by, kind, by.model(kind, payload["model"]), payload, deadline, **fields)

    return make


@pytest.fixture
def candidate(logic: Logic) -> Callable[..., Candidate]:
    def make(
        provider: str = "runpod", *, kind: str = "embedding", key: str = "1", by: Logic = logic
    ) -> Candidate:
        offers = by.offers(kind, by.model(kind, None))
        [offer] = [offer for offer in offers if offer.provider == provider]
        return Candidate(offer, Site(f"http://{provider}", key, "secret"))

    return make


def failed(
    failure: Failure = Failure.FAILOVER, code: str = "overloaded", wait: float | None = None
) -> ProviderError:
    return ProviderError(failure=failure, code=code, retry_after=wait)
