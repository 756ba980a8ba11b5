"""The local provider: a packaged model inside the facade itself."""

from __future__ import annotations

from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.engines.base import work
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import DeadlineExceeded, InvalidRequest
from gifty_compute.logic.logic import Model

__all__ = ["LocalProvider"]

# About two seconds of one core at a millisecond a token.
_LONGEST_TEXT = 8_000


class LocalProvider:
    """Wraps the engines of this process; keyless, and as fast as the machine."""

    name = "local"

    def __init__(self, shelf: EngineShelf) -> None:
        self._shelf = shelf

    def serves(self, kind: str, model: Model) -> bool:
        return kind in model.section.kinds and self._shelf.packaged(model.section.engine)

    def run(self, kind: str, model: Model, payload: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """The raw result; the deadline is looked at between the engine's passes, and no text outlasts it.

        Raises InvalidRequest for a longer text: a pass cannot be cut short, and all callers share the model.
        """
        _refuse_long_texts(payload)

        def still_wanted() -> None:
            if deadline.expired:
                raise DeadlineExceeded(f"local: {kind} was not done within the deadline")

        engine = self._shelf.get(model.section.engine).interruptible(still_wanted)
        return work(engine, kind, payload)


def _refuse_long_texts(payload: dict[str, Any]) -> None:
    for param in ("texts", "documents", "external_names", "query"):
        texts = payload.get(param, ())
        longest = max(map(len, [texts] if isinstance(texts, str) else texts), default=0)
        if longest > _LONGEST_TEXT:
            message = (
                f"a text has {longest} characters, the local model answers at once up to {_LONGEST_TEXT}"
            )
            raise InvalidRequest(f"{message}; use priority low", param=param, code="text_too_long")
