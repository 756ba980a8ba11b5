"""What the local provider serves, and how it keeps to a deadline."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.base import Engine, Job, Row
from gifty_compute.engines.encoding import bi_encoder_job
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import Failure, InvalidRequest, ProviderError
from gifty_compute.providers.base import Ask, Usage
from gifty_compute.providers.local import LocalProvider
from tests.unit.conftest import HandClock
from tests.unit.providers.scripted import asking

E5 = "multilingual-e5-small"


class Slow:
    """An engine that takes a second a row, one row a pass, and may be held."""

    model, revision, space = E5, "1", "space"
    kinds = frozenset({"embedding", "rerank", "classify"})
    precision = ""
    packed, pass_tokens, row_tokens, dim = True, 1, 1.0, 2

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.passes = 0
        self.inside, self.leave = threading.Semaphore(0), threading.Semaphore(0)
        self.held = False

    def rows(self, texts: Sequence[str], input_type: str) -> list[Row]:
        return [Row(len(text), text) for text in texts]

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        return bi_encoder_job(self, task_type, payload)

    def samples(self) -> Sequence[Sequence[Row]]:
        return ()

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        self.passes += 1
        self.inside.release()
        if self.held:
            assert self.leave.acquire(timeout=10)
        self._clock.advance(len(rows))
        return [np.ones(2, np.float32) for _ in rows]


@pytest.fixture
def engine(clock: HandClock) -> Slow:
    return Slow(clock)


@pytest.fixture
def provider(engine: Slow, clock: HandClock) -> Iterator[LocalProvider]:
    class Shelf(EngineShelf):
        def get(self, model: str) -> Engine:
            assert model == E5
            return engine

    inference = Inference(Shelf(), clock)
    yield LocalProvider(inference)
    engine.leave.release(1000)
    inference.close()


def local(
    kind: str, payload: dict[str, Any], clock: HandClock, *, seconds: float = 5, model: str = E5
) -> Ask:
    return asking("local", kind, payload, model_id=model, key="", seconds=seconds, clock=clock)


def test_work_within_the_deadline_is_answered_and_counted(provider: LocalProvider, clock: HandClock) -> None:
    reply = provider.run(local("embedding", {"texts": ["a", "b"], "input_type": "passage"}, clock))

    assert reply.result["embeddings"].shape == (2, 2)
    assert reply.usage == Usage(2)
    assert "usage" not in reply.result


@pytest.mark.parametrize(("kind", "model"), [("llm", E5), ("embedding", "bge-m3")])
def test_what_no_packaged_model_does_is_not_served(
    provider: LocalProvider, clock: HandClock, kind: str, model: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        provider.run(local(kind, {"texts": ["a"]}, clock, model=model))

    assert caught.value.code == "not_served"


def test_work_stops_at_the_first_pass_after_the_deadline(
    provider: LocalProvider, engine: Slow, clock: HandClock
) -> None:
    with pytest.raises(ProviderError) as caught:
        provider.run(local("embedding", {"texts": ["a"] * 10}, clock, seconds=3))

    assert (caught.value.code, caught.value.failure) == ("timeout", Failure.FAILOVER)
    assert engine.passes == 3


def test_a_text_that_no_deadline_could_stop_is_refused_before_any_work(
    provider: LocalProvider, engine: Slow, clock: HandClock
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        provider.run(local("embedding", {"texts": ["a", "b" * 8001]}, clock))

    assert (caught.value.code, caught.value.param) == ("text_too_long", "texts")
    assert engine.passes == 0


def test_who_would_not_be_served_in_time_is_told_so_at_once(
    provider: LocalProvider, engine: Slow, clock: HandClock
) -> None:
    provider.run(local("embedding", {"texts": ["a" * 10]}, clock))  # 10 tokens a second
    assert engine.inside.acquire(timeout=10)
    engine.held = True
    first = threading.Thread(target=provider.run, args=(local("embedding", {"texts": ["a" * 40]}, clock),))
    first.start()
    assert engine.inside.acquire(timeout=10)
    try:
        with pytest.raises(ProviderError) as caught:
            provider.run(local("embedding", {"texts": ["b" * 20]}, clock, seconds=5))
    finally:
        engine.leave.release()
        first.join(10)

    assert (caught.value.code, caught.value.retry_after) == ("overloaded", 4)


def test_whoever_waits_for_a_pass_is_told_at_the_deadline_though_it_goes_on(
    provider: LocalProvider, engine: Slow, clock: HandClock
) -> None:
    engine.held = True

    with pytest.raises(ProviderError) as caught:
        provider.run(local("embedding", {"texts": ["a"]}, clock, seconds=0.05))

    assert caught.value.code == "timeout"


def test_a_lone_caller_is_never_turned_away(provider: LocalProvider, clock: HandClock) -> None:
    provider.run(local("embedding", {"texts": ["a"]}, clock))  # one token a second, it seems

    reply = provider.run(local("embedding", {"texts": ["a" * 100]}, clock, seconds=2))

    assert reply.result["embeddings"].shape == (1, 2)
