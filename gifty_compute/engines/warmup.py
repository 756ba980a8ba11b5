"""Warm-up: a model's first passes, which load what is lazy, and tell what a pass costs beside its tokens."""

from __future__ import annotations

from gifty_compute.arrays import np
from gifty_compute.clock import Clock
from gifty_compute.engines.base import Engine

__all__ = ["warm_up"]

_ROUNDS = 3
# Whatever a noisy machine says: beyond it a pass for each row would be as good as any.
_MOST_ROW_TOKENS = 500.0


def warm_up(engine: Engine, clock: Clock) -> float:
    """c0 in tokens: the line through the times of the engine's sample passes, at no tokens.

    Its own guess where it has no samples to run, or where more tokens took no more time. Raises what a pass
    raises: a model that cannot do its samples is of no use.
    """
    sizes, seconds = [], []
    for rows in engine.samples():
        sizes.append(len(rows) * max(row.tokens for row in rows))
        engine.forward(rows)
        times = []
        for _ in range(_ROUNDS):
            began = clock.monotonic()
            engine.forward(rows)
            times.append(clock.monotonic() - began)
        seconds.append(min(times))
    if len(set(sizes)) < 2:
        return engine.row_tokens
    a_token, a_pass = np.polyfit(sizes, seconds, 1)
    if a_token <= 0:
        return engine.row_tokens
    return float(min(max(a_pass / a_token, 0.0), _MOST_ROW_TOKENS))
