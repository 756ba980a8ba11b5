"""What the warm-up learns from the times of sample passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gifty_compute.engines.base import Job, Row
from gifty_compute.engines.warmup import warm_up
from gifty_compute.errors import EngineError
from tests.unit.conftest import HandClock


class Timed:
    """A pass takes `a_pass` seconds, and `a_token` for each of its tokens; the first one is cold."""

    model, revision, space = "m", "1", None
    kinds: frozenset[str] = frozenset()
    precision = ""
    packed, pass_tokens, row_tokens = False, 1000, 30.0

    def __init__(
        self, clock: HandClock, *, a_pass: float, a_token: float, shapes: Sequence[tuple[int, int]]
    ) -> None:
        self._clock, self._a_pass, self._a_token, self._shapes = clock, a_pass, a_token, shapes
        self.passes = 0

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        raise EngineError("not here")

    def samples(self) -> Sequence[Sequence[Row]]:
        return [[Row(tokens, None)] * rows for rows, tokens in self._shapes]

    def forward(self, rows: Sequence[Row]) -> Sequence[Any]:
        cold = 0.0 if self.passes else 60.0
        self._clock.advance(cold + self._a_pass + self._a_token * len(rows) * max(row.tokens for row in rows))
        self.passes += 1
        return rows


SHAPES = [(1, 8), (4, 16), (8, 64)]


@pytest.mark.parametrize(("a_pass", "fitted"), [(0.05, 50), (0.0, 0), (10.0, 500)])
def test_what_a_pass_costs_is_told_in_tokens_within_reason(
    clock: HandClock, a_pass: float, fitted: float
) -> None:
    engine = Timed(clock, a_pass=a_pass, a_token=0.001, shapes=SHAPES)

    assert warm_up(engine, clock) == pytest.approx(fitted, abs=0.01)


@pytest.mark.parametrize(
    ("shapes", "a_token"), [([], 0.001), ([(1, 8)], 0.001), ([(1, 8), (2, 4)], 0.001), (SHAPES, 0.0)]
)
def test_where_nothing_can_be_learnt_the_engines_own_guess_stands(
    clock: HandClock, shapes: list[tuple[int, int]], a_token: float
) -> None:
    assert warm_up(Timed(clock, a_pass=0.05, a_token=a_token, shapes=shapes), clock) == 30


def test_a_pass_that_fails_is_told(clock: HandClock) -> None:
    engine = Timed(clock, a_pass=0.05, a_token=0.001, shapes=SHAPES)

    def broken(rows: Sequence[Row]) -> Sequence[Any]:
        raise EngineError("no such instruction")

    engine.forward = broken  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="no such instruction"):
        warm_up(engine, clock)
