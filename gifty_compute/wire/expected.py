"""What a result must agree with: the task's own model and space, and the rules in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gifty_compute.errors import InvalidResult

__all__ = ["Expected"]


@dataclass(frozen=True)
class Expected:
    """The model that was asked, its space and dimension (None: not known here), and the least confidence."""

    model: str | None
    space: str | None = None
    dim: int | None = None
    aliases: frozenset[str] = frozenset()
    min_confidence: float = 0.0

    def refuse_strangers(self, raw: dict[str, Any], known: set[str]) -> None:
        """Raises InvalidResult for a field that no result of the kind has."""
        for field in raw:
            if field not in known:
                raise InvalidResult(f"a result of this type has no field {field[:40]!r}", param=field[:40])

    def refuse_other_model(self, raw: dict[str, Any]) -> None:
        """Raises InvalidResult when the result names a model that is not the task's."""
        # A tuple, not a set: what a worker names may be unhashable.
        if raw.get("model") not in (None, self.model, *self.aliases):
            raise InvalidResult(f"model is not the task's model {self.model}", param="model")
