"""The roster of poll workers."""

from __future__ import annotations

from gifty_compute.fleet.roster import _MOST_MEMBERS, Roster, told_of_itself


def test_who_spoke_is_new_once() -> None:
    roster = Roster(90.0)

    assert [roster.hear("w", 0.0), roster.hear("w", 1.0)] == [True, False]


def test_who_has_not_spoken_since_is_not_told_of_again() -> None:
    roster = Roster(90.0)
    roster.hear("w", 0.0)

    assert [name for name, _ in roster.due(0.0, 5.0)] == ["w"]
    assert roster.due(50.0, 5.0) == []
    roster.hear("w", 51.0)
    assert [name for name, _ in roster.due(51.0, 5.0)] == ["w"]


def test_who_is_silent_for_the_whole_time_is_struck_out_once() -> None:
    roster = Roster(90.0)
    roster.hear("silent", 0.0)
    roster.hear("loud", 80.0)

    assert roster.drop_silent(89.9) == []
    assert roster.drop_silent(90.0) == ["silent"]
    assert roster.drop_silent(90.0) == []
    assert set(roster.present()) == {"loud"}


def test_what_a_worker_has_in_hand_never_falls_below_nothing() -> None:
    roster = Roster(90.0)
    roster.hear("w", 0.0, began=2)
    roster.hear("w", 0.0, ended=5)

    assert (roster.present()["w"].active, roster.present()["w"].processed) == (0, 2)


def test_a_token_with_endless_names_fills_no_memory() -> None:
    roster = Roster(90.0)

    for number in range(_MOST_MEMBERS + 10):
        roster.hear(f"w-{number}", 0.0)

    assert len(roster.present()) == _MOST_MEMBERS
    assert "w-0" not in roster.present()


def test_what_a_worker_says_of_itself_is_cut_and_printable() -> None:
    told = told_of_itself({"gpu": "T4" * 500, "model": {"a": 1}, "version": "1\x1b[31m", "texts": "secret"})

    assert told == {"gpu": ("T4" * 500)[:100], "version": "1[31m"}
