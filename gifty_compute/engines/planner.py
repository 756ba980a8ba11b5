"""The planner: which rows go through the model together.

A pass of padded rows costs what its longest row costs, times the rows, and c0 tokens besides. Of batches of
32 in arrival order half is padding (`python -m benchmarks.planner`).
"""

from __future__ import annotations

from collections.abc import Sequence

from gifty_compute.arrays import np

__all__ = ["plan"]


def plan(
    lengths: Sequence[int], *, pass_tokens: int, row_tokens: float, packed: bool = False
) -> list[list[int]]:
    """Passes of positions in `lengths` (tokens a row); each row is in exactly one.

    Of all splits of the sorted rows into passes of at most `pass_tokens` (rows x longest), one with the least
    sum of (row_tokens + rows x longest); by dynamic programming, so that no other is better. A row that is
    longer than a pass goes alone. Packed rows need no sorting: they fill passes in their order.

    >>> plan([5, 40, 6, 41], pass_tokens=100, row_tokens=10)
    [[0, 2], [1, 3]]
    >>> plan([5, 40, 6, 41], pass_tokens=100, row_tokens=10, packed=True)
    [[0, 1, 2, 3]]
    """
    if packed:
        return _filled(lengths, pass_tokens)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ends = _best_ends([lengths[place] for place in order], pass_tokens, row_tokens)
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _best_ends(ascending: Sequence[int], pass_tokens: int, row_tokens: float) -> list[int]:
    """Where the passes end.

    The cheapest way to do the first n rows is the cheapest way to do the first m, for some m, and one pass of
    the others, which is as long as row n.
    """
    total = len(ascending)
    cheapest, began = np.zeros(total + 1), [0] * (total + 1)
    for end in range(1, total + 1):
        longest = max(1, ascending[end - 1])
        first = max(0, end - max(1, pass_tokens // longest))
        rows = np.arange(end - first, 0, -1)
        costs = cheapest[first:end] + row_tokens + rows * longest
        best = int(costs.argmin())
        cheapest[end], began[end] = costs[best], first + best
    ends, end = [], total
    while end:
        ends.append(end)
        end = began[end]
    return ends[::-1]


def _filled(lengths: Sequence[int], pass_tokens: int) -> list[list[int]]:
    passes: list[list[int]] = []
    tokens = 0
    for place, length in enumerate(lengths):
        if not passes or tokens + length > pass_tokens:
            passes.append([])
            tokens = 0
        passes[-1].append(place)
        tokens += length
    return passes
