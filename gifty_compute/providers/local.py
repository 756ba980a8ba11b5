"""The local provider: a packaged model inside the facade itself."""

from __future__ import annotations

from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.engines.base import work
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import DeadlineExceeded
from gifty_compute.logic.logic import Model

__all__ = ["LocalProvider"]


class LocalProvider:
    """Wraps the engines of this process; keyless, and as fast as the machine."""

    name = "local"

    def __init__(self, shelf: EngineShelf) -> None:
        self._shelf = shelf

    def serves(self, kind: str, model: Model) -> bool:
        return kind in model.section.kinds and self._shelf.packaged(model.section.engine)

    def run(self, kind: str, model: Model, payload: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """The raw result; the deadline is looked at between the engine's passes."""

        def still_wanted() -> None:
            if deadline.expired:
                raise DeadlineExceeded(f"local: {kind} was not done within the deadline")

        engine = self._shelf.get(model.section.engine).interruptible(still_wanted)
        return work(engine, kind, payload)
