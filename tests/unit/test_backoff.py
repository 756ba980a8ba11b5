"""Delays between tries."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.backoff import Backoff

backoffs = st.builds(Backoff, base=st.floats(0.001, 60), cap=st.floats(0.001, 3600))
counts = st.integers(-5, 10**6)


def test_the_ceiling_doubles_until_the_cap() -> None:
    backoff = Backoff(base=0.5, cap=3)

    assert [backoff.ceiling(n) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3, 3]


def test_no_failure_waits_no_longer_than_the_first() -> None:
    backoff = Backoff(base=2, cap=600)

    assert backoff.ceiling(0) == backoff.ceiling(-3) == backoff.ceiling(1)


@given(backoffs, counts, st.integers())
def test_a_delay_lies_between_none_and_the_ceiling(backoff: Backoff, failures: int, seed: int) -> None:
    delay = backoff.delay(failures, Random(seed))

    assert 0 <= delay <= backoff.ceiling(failures) <= backoff.cap


@given(backoffs, counts)
def test_one_more_failure_never_shortens_the_ceiling(backoff: Backoff, failures: int) -> None:
    assert backoff.ceiling(failures) <= backoff.ceiling(failures + 1)


def test_delays_are_spread_over_the_whole_range() -> None:
    rng = Random(1)

    delays = [Backoff(base=8, cap=8).delay(1, rng) for _ in range(1000)]

    assert min(delays) < 0.5
    assert max(delays) > 7.5
    assert sum(delays) / len(delays) == pytest.approx(4, abs=0.3)


def test_the_same_random_source_gives_the_same_delays() -> None:
    backoff = Backoff(base=2, cap=600)

    assert backoff.delay(3, Random(7)) == backoff.delay(3, Random(7))
