"""The planner: every row once, no pass too large, no split cheaper."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.engines.planner import plan

LENGTHS = st.lists(st.integers(1, 200), max_size=60)


def cost(passes: list[list[int]], lengths: list[int], row_tokens: float) -> float:
    return sum(row_tokens + len(one) * max(lengths[place] for place in one) for one in passes)


@given(LENGTHS, st.integers(1, 2000), st.floats(0, 100), st.booleans())
def test_every_row_is_in_one_pass_and_only_a_row_alone_may_be_too_long(
    lengths: list[int], pass_tokens: int, row_tokens: float, packed: bool
) -> None:
    passes = plan(lengths, pass_tokens=pass_tokens, row_tokens=row_tokens, packed=packed)

    assert sorted(place for one in passes for place in one) == list(range(len(lengths)))
    for one in passes:
        tokens = [lengths[place] for place in one]
        size = sum(tokens) if packed else len(tokens) * max(tokens)
        assert size <= pass_tokens or len(one) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(50, 300), st.floats(0, 60))
def test_no_split_of_the_sorted_rows_is_cheaper(lengths: list[int], most: int, row_tokens: float) -> None:
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__)
    found = cost(plan(lengths, pass_tokens=most, row_tokens=row_tokens), lengths, row_tokens)

    for cuts in range(len(lengths)):
        for where in combinations(range(1, len(lengths)), cuts):
            ends = [0, *where, len(lengths)]
            passes = [ordered[a:b] for a, b in pairwise(ends)]
            if all(len(one) * max(lengths[place] for place in one) <= most for one in passes):
                assert found <= cost(passes, lengths, row_tokens) + 1e-6


def test_packed_rows_stay_in_their_order() -> None:
    assert plan([50, 5, 40, 6], pass_tokens=60, row_tokens=10, packed=True) == [[0, 1], [2, 3]]


def test_of_nothing_there_is_no_pass() -> None:
    assert plan([], pass_tokens=100, row_tokens=30) == []
