"""Seconds of work, not rows: how many tasks a worker asks for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.perform.pace import MOST_IN_HAND, Load, Pace


def trusted(rate: float, *, items: int = 1, done: int = MOST_IN_HAND) -> Pace:
    """Measured at that many items a second, in tasks of so many items, after so many tasks done."""
    pace = Pace()
    pace.worked(100.0, round(rate * 100))
    pace.claimed([items] * 1000)
    for _ in range(done):
        pace.done()
    return pace


def load(tasks: int = 0, items: int = 0, lease: float = 90, left: float | None = None) -> Load:
    return Load(tasks=tasks, items=items, lease_seconds=lease, left=left)


@pytest.mark.parametrize(
    ("rate", "items", "given", "limit"),
    [
        (1, 1, load(), 30),  # 30 s of work
        (1, 3, load(), 10),  # in tasks of three items
        (1, 1, load(lease=45), 15),  # a third of the lease
        (1, 1, load(left=20), 10),  # half of the time that is left
        (1, 1, load(left=0), 0),
        (1, 1, load(tasks=10, items=10), 20),  # less what is in hand
        (1, 1, load(tasks=29, items=29), 0),
        (1000, 1, load(), 100),  # never more
        (0.01, 1, load(), 1),  # a slow machine still gets one
        (0.01, 1, load(tasks=1, items=1), 0),
        (0.01, 1, load(left=100), 0),  # but none that it would not finish
    ],
)
def test_the_limit_is_time_times_rate_less_what_is_in_hand(
    rate: float, items: int, given: Load, limit: int
) -> None:
    assert trusted(rate, items=items).limit(given) == limit


@given(
    rate=st.floats(0.01, 1e4),
    items=st.integers(1, 500),
    tasks=st.integers(0, MOST_IN_HAND),
    left=st.none() | st.floats(0, 1e5),
    lease=st.floats(1, 900),
)
def test_no_limit_is_beyond_the_formula(
    rate: float, items: int, tasks: int, left: float | None, lease: float
) -> None:
    pace = trusted(rate, items=items)
    assert pace.rate is not None
    seconds = min(30, lease / 3, math.inf if left is None else left / 2)

    limit = pace.limit(load(tasks, tasks * items, lease, left))

    assert 0 <= limit <= 100
    assert limit <= max(1, (seconds * pace.rate - tasks * items) / items + 1e-6)


def test_a_worker_begins_with_four_tasks_and_asks_for_no_more_before_one_is_done() -> None:
    pace = Pace()

    assert pace.limit(load()) == 4
    assert pace.limit(load(tasks=3, items=3)) == 0


def test_what_is_trusted_doubles_each_round() -> None:
    pace, asked = trusted(1000, done=0), []
    for _ in range(6):
        asked.append(pace.limit(load()))
        for _ in range(asked[-1]):
            pace.done()

    assert asked == [4, 8, 16, 32, 64, 100]


def test_trouble_halves_what_is_trusted_and_it_grows_slowly_from_there() -> None:
    pace = trusted(1000, done=60)
    pace.halve()
    after = pace.limit(load())
    for _ in range(after):
        pace.done()

    assert (after, pace.limit(load())) == (32, 32)
    for _ in range(2):
        pace.done()
    assert pace.limit(load()) == 33


def test_what_is_asked_for_comes_in_few_large_claims() -> None:
    pace = trusted(1)

    assert pace.limit(load(tasks=16, items=16)) == 0
    assert pace.limit(load(tasks=14, items=14)) == 16


def test_the_rate_is_of_the_last_seconds() -> None:
    pace = Pace()
    pace.worked(100, 100)
    for _ in range(60):
        pace.worked(1, 10)

    assert pace.rate == pytest.approx(10, rel=0.05)
