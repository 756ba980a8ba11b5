"""Every provider's fake, and the high road to them over each transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import parse_logic
from gifty_compute.routing.call import Call
from gifty_compute.transport.base import Transport
from gifty_compute.transport.curl import CurlTransport
from gifty_compute.transport.pooled import PooledTransport
from tests.fakes.server import FakeProviders

CLOCK = SystemClock()
NO_REDIS = "redis://127.0.0.1:1/0"
WORK: dict[str, dict[str, Any]] = {
    "embedding": {"texts": ["чайник", "мяч", "книга"]},
    "rerank": {"query": "подарок рыбаку", "documents": ["удочка рыбаку", "помада", "подарок"]},
    "classify": {"external_names": ["Удочки"], "internal_categories": [{"id": 7, "name": "Рыбалка"}]},
    "score": {"products": [{"title": "Удочка"}]},
    "llm": {"messages": [{"role": "user", "content": "Что подарить?"}], "system_prompt": "Кратко."},
}


_TRANSPORTS: dict[str, Callable[[], Transport]] = {"curl": CurlTransport, "urllib3": PooledTransport}


@pytest.fixture(params=_TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    made = _TRANSPORTS[request.param]()
    yield made
    made.close()


@pytest.fixture
def road(fake: FakeProviders, transport: Transport) -> Iterator[Callable[..., HighRoad]]:
    made: list[HighRoad] = []

    def build(*providers: str) -> HighRoad:
        environ = fake.environ(*providers)
        made.append(
            build_high_road(
                environ,
                NO_REDIS,
                Inference(EngineShelf(), CLOCK),
                CLOCK,
                Random(1),
                transport=transport,
            )
        )
        return made[-1]

    yield build
    for high in made:
        high.close()


def call_of(logic: Logic, kind: str, *, model: str | None = None, seconds: float = 10, **more: Any) -> Call:
    placed = logic.place(kind, {**WORK[kind], **more, **({"model": model} if model else {})})
    return Call(logic, kind, logic.model(kind, placed["model"]), placed, Deadline.after(seconds, CLOCK))


def logic_for(provider: str, kind: str, extra: str = "") -> Logic:
    """A file in which this kind of work goes to this provider alone."""
    model = {"together": "multilingual-e5-large-instruct", "gemini": "gemini-embedding-001"}.get(
        provider, "bge-m3"
    )
    reranker = f"bge-reranker-v2-m3: {{providers: {{{provider}: some/reranker}}}}"
    ids = f"models: {{fast: {{providers: {{runpod: some/llm}}}}, {reranker}}}"
    if kind == "llm":
        return parse_logic(f"llm: {{default_provider: {provider}}}\n{ids}\n{extra}")
    if kind == "embedding":
        return parse_logic(f"embedding: {{providers: [{provider}], model: {model}}}\n{extra}")
    return parse_logic(f"{kind}: {{providers: [{provider}]}}\n{ids}\n{extra}")
