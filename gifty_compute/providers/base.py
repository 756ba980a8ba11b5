"""The provider's protocol: one remote or local service that answers work of some kinds."""

from __future__ import annotations

from typing import Any, Protocol

from gifty_compute.clock import Deadline
from gifty_compute.logic.logic import Model

__all__ = ["Provider"]


class Provider(Protocol):
    """Answers one piece of work, once: no retries, no fallback; those are the router's."""

    name: str

    def serves(self, kind: str, model: Model) -> bool:
        """Whether it can do this kind of work by this very model, in its very space."""
        ...

    def run(self, kind: str, model: Model, payload: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """The raw result. Raises GiftyComputeError; DeadlineExceeded when the time is over."""
        ...
