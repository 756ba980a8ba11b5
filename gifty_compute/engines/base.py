"""The engine's protocol: what a loaded model is to everybody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Engine", "Job", "Row"]


@dataclass(frozen=True)
class Row:
    """One input of a model, tokenised."""

    tokens: int
    """As many as the model will read of it: special ones included, what is cut off not."""
    content: Any = field(repr=False)
    """The engine's own form."""


@dataclass(frozen=True)
class Job:
    """What a payload asks of a model: rows, and how their outputs become its result."""

    rows: Sequence[Row]
    finish: Callable[[Sequence[Any]], dict[str, Any]]
    """From one output a row, in order, to the raw result as the contract shapes it. Raises EngineError."""

    @property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.rows)


class Engine(Protocol):
    """One loaded model.

    `prepare` may be called by several threads at once; `forward` is called by one alone.
    """

    model: str
    """As tasks name it."""
    revision: str
    """Of the weights: two that differ here may give different vectors."""
    precision: str
    """What its numbers are, as operators read it: fp32, bfloat16, q4; empty where nobody knows here."""
    space: str | None
    """Of its vectors; None for a model that makes none."""
    kinds: frozenset[str]
    """The task types that it can do."""
    packed: bool
    """Whether rows of a pass lie one after the other, so that a short one beside a long one costs no more."""
    pass_tokens: int
    """The largest pass: rows times the longest of them, or their sum if packed. A longer row goes alone."""
    row_tokens: float
    """What a pass costs beside its tokens, in tokens: c0 in the planner's sum, a guess until the warm-up."""

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        """The payload's rows. Raises EngineError for one that this model cannot do."""
        ...

    def samples(self) -> Sequence[Sequence[Row]]:
        """Passes for the warm-up, of short and different shapes; none where nothing is to be learnt."""
        ...

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        """One output a row, in order. Raises OutOfMemory for a pass that is too large."""
        ...
