"""The local provider: a packaged model inside the facade itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.engines.base import work
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import DeadlineExceeded, EngineError, Failure, InvalidRequest, ProviderError
from gifty_compute.logic.defaults import PACKAGED
from gifty_compute.providers.base import Ask, Reply, Usage
from gifty_compute.providers.failures import not_served

__all__ = ["LocalProvider"]

# About two seconds of one core at a millisecond a token.
_LONGEST_TEXT = 8_000
_ENGINES = {model: engine for engine, (model, _) in PACKAGED.items()}


class LocalProvider:
    """Wraps the engines of this process; keyless, and as fast as the machine."""

    def __init__(self, shelf: EngineShelf) -> None:
        self._shelf = shelf
        self._line = _Line()

    def run(self, ask: Ask) -> Reply:
        """The reply; by the deadline whoever waits is told, also if the engine is in the middle of a pass.

        Raises InvalidRequest for a long text: a pass cannot be cut short, and all callers share the model.
        Raises ProviderError: overloaded where the work before this one would leave it no time, timeout.
        """
        name = _ENGINES.get(ask.offer.model_id)
        if name is None or ask.offer.ask_as not in ask.offer.section.kinds:
            raise not_served(ask)
        size = _refuse_long_texts(ask.payload)

        def still_wanted() -> None:
            if ask.deadline.expired:
                raise DeadlineExceeded

        try:
            engine = self._shelf.get(name).interruptible(still_wanted)
            with self._line.place(size, ask.deadline):
                result = work(engine, ask.offer.ask_as, ask.payload)
        except DeadlineExceeded as error:
            raise ProviderError("not done in time", failure=Failure.FAILOVER, code="timeout") from error
        except EngineError as error:
            raise ProviderError(error.message, failure=Failure.FAILOVER, code=error.code) from error
        used = result.pop("usage", None)
        return Reply(result, Usage(used["prompt_tokens"]) if used else None)


class _Line:
    """The work that waits for the model: who could not be served in time is told so at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._pace = 0.0
        """Characters a second, lately; 0 as long as nothing was measured."""

    @contextmanager
    def place(self, size: int, deadline: Deadline) -> Iterator[None]:
        """A place for so many characters. Raises ProviderError (overloaded)."""
        with self._lock:
            needed = (self._waiting + size) / self._pace if self._pace else 0.0
            if self._waiting and needed > deadline.remaining:
                raise ProviderError(
                    "the model is busy for longer than the deadline",
                    failure=Failure.FAILOVER,
                    code="overloaded",
                    retry_after=self._waiting / self._pace,
                )
            ahead, began = self._waiting, deadline.clock.monotonic()
            self._waiting += size
        done = False
        try:
            yield
            done = True
        finally:
            seconds = deadline.clock.monotonic() - began
            with self._lock:
                self._waiting -= size
                if done and seconds > 0:
                    # All that stood before it was done in that time, too.
                    pace = (ahead + size) / seconds
                    self._pace = pace if not self._pace else 0.8 * self._pace + 0.2 * pace


def _refuse_long_texts(payload: dict[str, Any]) -> int:
    """The characters of all texts together."""
    total = 0
    for param in ("texts", "documents", "external_names", "query"):
        texts = payload.get(param, ())
        lengths = [len(text) for text in ([texts] if isinstance(texts, str) else texts)]
        longest = max(lengths, default=0)
        if longest > _LONGEST_TEXT:
            message = (
                f"a text has {longest} characters, the local model answers at once up to {_LONGEST_TEXT}"
            )
            raise InvalidRequest(f"{message}; use priority low", param=param, code="text_too_long")
        total += sum(lengths)
    return total
