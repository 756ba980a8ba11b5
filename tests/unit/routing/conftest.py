"""Calls, candidates and guards for the parts of the router, and a rest of the way for its stages."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import Failure, ProviderError
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.providers.base import Site, Usage
from gifty_compute.routing.call import Answer, Call
from gifty_compute.routing.guard import Candidate
from tests.unit.conftest import HandClock

PAYLOADS: dict[str, dict[str, Any]] = {
    "embedding": {"texts": ["чайник"], "model": "bge-m3", "input_type": "passage"},
    "rerank": {"query": "чай", "documents": ["мёд", "кружка"], "model": "bge-reranker-v2-m3"},
    "llm": {"messages": [{"role": "user", "content": "Привет"}], "model": "fast"},
}


@pytest.fixture
def logic() -> Logic:
    return DEFAULT_LOGIC


@pytest.fixture
def call(clock: HandClock, logic: Logic) -> Callable[..., Call]:
    def make(kind: str = "embedding", *, by: Logic = logic, seconds: float = 2.0, **fields: Any) -> Call:
        payload = fields.pop("payload", None) or PAYLOADS[kind]
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


def embedding_payload(*texts: str, **fields: Any) -> dict[str, Any]:
    return {"texts": list(texts), "model": "bge-m3", "input_type": "passage", **fields}


def vector_of(text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A vector that no other text has."""
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=1024).astype("<f4")


def embedded(call: Call) -> Answer:
    """What a provider would answer: each text's own vector."""
    result = {
        "embeddings": np.stack([vector_of(text) for text in call.payload["texts"]]),
        "model": "bge-m3",
        "space": "bge-m3",
        "dim": 1024,
    }
    return Answer(result, "runpod", 1, Usage(len(call.payload["texts"])), 0.5)


class Watched(Deadline):
    """A deadline that tells when somebody is about to wait by it."""

    waiting: threading.Event

    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__(clock.monotonic() + seconds, clock)
        object.__setattr__(self, "waiting", threading.Event())

    @property
    def remaining(self) -> float:
        self.waiting.set()
        return super().remaining


class Held:
    """The rest of the way: every call stays there until it is let go."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self._turns: list[Future[BaseException | None]] = []
        self._changed = threading.Condition()
        self._open = False

    def __call__(self, call: Call) -> Answer:
        turn: Future[BaseException | None] = Future()
        with self._changed:
            self.asked.append(call)
            self._turns.append(turn)
            if self._open:
                turn.set_result(None)
            self._changed.notify_all()
        error = turn.result(timeout=10)
        if error is not None:
            raise error
        return embedded(call)

    def wait_for(self, calls: int) -> None:
        """Returns when so many calls have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= calls, timeout=10)

    def let_go(self, number: int, error: BaseException | None = None) -> None:
        """The call of this number, from 0, ends; waits for it to come."""
        self.wait_for(number + 1)
        self._turns[number].set_result(error)

    def let_all_go(self) -> None:
        """Every call ends well, those that are yet to come at once."""
        with self._changed:
            self._open = True
            for turn in self._turns:
                if not turn.done():
                    turn.set_result(None)

    @property
    def texts(self) -> list[list[str]]:
        return [call.payload["texts"] for call in self.asked]


@pytest.fixture
def held() -> Held:
    return Held()


class Callers:
    """Calls in threads of their own."""

    def __init__(self, pool: ThreadPoolExecutor, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    def start(self, run: Callable[..., Answer], call: Call, then: Callable[[Call], Answer]) -> Future[Answer]:
        return self._pool.submit(run, call, then)

    def start_and_wait(
        self, run: Callable[..., Answer], call: Call, then: Callable[[Call], Answer]
    ) -> Future[Answer]:
        """Returns when the call waits for something that another one does."""
        deadline = Watched(call.deadline.at - self._clock.monotonic(), self._clock)
        future = self._pool.submit(run, replace(call, deadline=deadline), then)
        assert deadline.waiting.wait(10)
        return future


@pytest.fixture
def callers(clock: HandClock) -> Iterator[Callers]:
    with ThreadPoolExecutor(64) as pool:
        yield Callers(pool, clock)
