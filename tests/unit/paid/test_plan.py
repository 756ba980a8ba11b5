"""The plan by itself: free workers first, just enough paid for, never more than the money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gifty_compute.paid.plan import Plan, Standing, make_plan

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def plan(usd_a_task: float | None = 0.01, provider: str | None = "openrouter", **fields: object) -> Plan:
    told = {
        "now": NOW,
        "created_at": NOW - timedelta(hours=1),
        "finish_by": NOW + timedelta(seconds=1000),
        "left": 1000,
        "in_paid_hands": 0,
        "rate": 0.5,
        "cost_usd": 0.0,
        "max_cost_usd": 100.0,
        **fields,
    }
    return make_plan(Standing(**told), provider, usd_a_task, "not allowed")  # type: ignore[arg-type]


def test_what_the_workers_will_not_make_is_paid_for() -> None:
    made = plan()

    assert (made.workers, made.paid, made.release) == (450, 550, 550)
    assert made.expected_cost_usd == 5.5


def test_workers_that_make_it_cost_nothing() -> None:
    made = plan(rate=2.0)

    assert (made.workers, made.paid, made.release, made.expected_cost_usd) == (1000, 0, 0, 0.0)


def test_the_money_bounds_what_is_released() -> None:
    made = plan(max_cost_usd=1.0, cost_usd=0.5)

    assert (made.paid, made.release, made.why) == (50, 50, "max_cost allows no more")
    assert made.expected_cost_usd == 1.0


def test_what_a_provider_is_doing_already_is_not_released_again() -> None:
    made = plan(in_paid_hands=500)

    assert (made.paid, made.release) == (550, 50)


def test_nobody_is_paid_before_the_workers_have_been_measured() -> None:
    made = plan(created_at=NOW - timedelta(seconds=10), rate=0.0)

    assert (made.release, made.why) == (0, "the workers are being measured")


def test_without_a_provider_the_plan_says_why() -> None:
    made = plan(usd_a_task=None, provider=None)

    assert (made.release, made.why) == (0, "not allowed")


def test_after_its_time_everything_is_late_and_paid_for_as_far_as_the_money_goes() -> None:
    made = plan(finish_by=NOW - timedelta(seconds=5), max_cost_usd=2.0)

    assert made.release == 200


@given(
    left=st.integers(1, 10**6),
    hands=st.integers(0, 100),
    rate=st.just(0.0) | st.floats(1 / 60, 1000),  # a task a minute is the least that is measured
    seconds=st.integers(-1000, 10**5),
    cost=st.floats(0, 50),
    most=st.floats(0, 100),
    each=st.floats(1e-7, 1),
)
def test_no_plan_spends_more_than_there_is_or_does_more_than_is_left(
    left: int, hands: int, rate: float, seconds: int, cost: float, most: float, each: float
) -> None:
    made = plan(
        each,
        left=left,
        in_paid_hands=min(hands, left),
        rate=rate,
        finish_by=NOW + timedelta(seconds=seconds),
        cost_usd=cost,
        max_cost_usd=most,
    )

    assert made.workers + made.paid == left
    assert 0 <= made.release <= left
    assert made.release * each <= max(0.0, most - cost) + 1e-6
