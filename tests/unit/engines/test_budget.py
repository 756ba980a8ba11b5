"""Passes shrink at once and grow slowly."""

from __future__ import annotations

from gifty_compute.engines.budget import Budget


def test_half_of_what_failed_is_tried_next() -> None:
    budget = Budget(1000)

    budget.shrink(600)

    assert (budget.tokens, budget.shrunk) == (300, 1)


def test_it_never_comes_to_nothing() -> None:
    budget = Budget(1000)

    for _ in range(20):
        budget.shrink(budget.tokens)

    assert budget.tokens == 1


def test_it_grows_back_after_many_passes_that_fitted_and_no_further() -> None:
    budget = Budget(1000)
    budget.shrink(1000)

    for _ in range(99):
        budget.grow()
    assert budget.tokens == 500
    budget.grow()
    assert 500 < budget.tokens < 600
    for _ in range(2000):
        budget.grow()
    assert budget.tokens == 1000


def test_a_failure_begins_the_count_anew() -> None:
    budget = Budget(1000)
    budget.shrink(1000)
    for _ in range(99):
        budget.grow()

    budget.shrink(500)
    budget.grow()

    assert budget.tokens == 250
