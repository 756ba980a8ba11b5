"""A recipe: all that an engine must know of the model that it is to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gifty_compute.logic.file import SpaceSection

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How one model is run on this machine."""

    model: str
    """As tasks name it."""
    engine: str
    kinds: frozenset[str]
    space_name: str | None = None
    space: SpaceSection | None = None
    """What its vectors must be; whoever finds the model to be otherwise refuses to run it."""
    source: str | None = None
    """Its id on the Hugging Face hub, or at the server that runs it."""
    revision: str | None = None
    """The commit there."""
    directory: Path | None = None
    """Where it lies on this machine, instead of the hub."""
    url: str | None = None
    """An OpenAI-compatible server that runs it."""
    handler: str | None = None
    """`module:function`, for a model that is a function of somebody else's."""

    @property
    def identity(self) -> str:
        """Which weights these are, as a space's `revision` says it.

        >>> Recipe("m", "torch", frozenset(), source="BAAI/bge-m3", revision="5617a9f6").identity
        'BAAI/bge-m3@5617a9f6'
        """
        return "@".join(part for part in (self.source, self.revision) if part) or self.model
