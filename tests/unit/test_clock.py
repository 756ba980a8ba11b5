"""The clock, and deadlines on it."""

from __future__ import annotations

from datetime import UTC, timedelta

from gifty_compute.clock import Deadline, SilenceDeadline, SystemClock
from tests.unit.conftest import HandClock


def test_a_deadline_shrinks_as_time_passes(clock: HandClock) -> None:
    deadline = Deadline.after(2.0, clock)

    clock.advance(0.5)

    assert deadline.remaining == 1.5
    assert not deadline.expired


def test_a_deadline_is_over_at_its_very_moment(clock: HandClock) -> None:
    deadline = Deadline.after(2.0, clock)

    clock.advance(2.0)

    assert deadline.expired
    assert deadline.remaining == 0.0


def test_what_is_left_after_a_deadline_is_nothing_and_not_less(clock: HandClock) -> None:
    deadline = Deadline.after(2.0, clock)

    clock.advance(100.0)

    assert deadline.remaining == 0.0


def test_a_deadline_handed_down_stays_the_same_moment(clock: HandClock) -> None:
    first = Deadline.after(2.0, clock)
    clock.advance(1.0)
    second = Deadline.after(1.0, clock)

    assert first == second


def test_the_machines_wall_clock_is_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)
    assert SystemClock().now().tzinfo is UTC


def test_the_machines_own_clock_only_grows() -> None:
    clock = SystemClock()

    moments = [clock.monotonic() for _ in range(100)]

    assert moments == sorted(moments)


def test_each_sign_of_life_moves_a_silence_deadline(clock: HandClock) -> None:
    deadline = SilenceDeadline(Deadline.after(2.0, clock), silence=5.0, longest=60.0)
    assert deadline.remaining == 2.0

    clock.advance(1.5)
    deadline.progress()
    assert deadline.remaining == 5.0
    clock.advance(4.0)
    deadline.progress()
    clock.advance(5.0)

    assert deadline.expired
    assert not deadline.is_last


def test_a_silence_deadline_may_come_nearer_with_the_first_sign(clock: HandClock) -> None:
    deadline = SilenceDeadline(Deadline.after(60.0, clock), silence=5.0, longest=600.0)

    deadline.progress()

    assert deadline.remaining == 5.0


def test_whatever_comes_nothing_lasts_longer_than_its_longest_time(clock: HandClock) -> None:
    deadline = SilenceDeadline(Deadline.after(2.0, clock), silence=5.0, longest=60.0)

    for _ in range(59):
        clock.advance(1.0)
        deadline.progress()

    assert deadline.remaining == 1.0
    assert deadline.is_last
    assert SilenceDeadline(Deadline.after(90.0, clock), silence=5.0, longest=60.0).remaining == 60.0
