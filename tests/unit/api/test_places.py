"""Places: which request gets one, which waits, in which order, and what one client may hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import api.places
from api.admission import Admission, Kind, threads_of_server
from api.places import Leave, NoPlace, Occupancy, Places
from gifty_compute.errors import Unavailable

LONG = 20.0
"""Seconds that no test waits."""


class Lines:
    """Requests that wait in line, each in a thread of its own."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def stand(self, places: Places, client: str, seconds: float = LONG) -> Future[Leave]:
        """Returns when the request is in line."""
        before = places.occupancy().waiting
        future = self._threads.submit(places.enter, client, seconds)
        pause = threading.Event()
        for _ in range(3000):
            if places.occupancy().waiting > before:
                return future
            pause.wait(0.01)
        raise AssertionError("the request does not stand in line")


@pytest.fixture
def lines() -> Iterator[Lines]:
    with ThreadPoolExecutor(16) as threads:
        yield Lines(threads)


def take(places: Places, *clients: str) -> list[Leave]:
    return [places.enter(client, 0) for client in clients]


def test_a_free_place_is_taken_at_once_and_is_free_again_when_it_is_left() -> None:
    places = Places(1)
    [leave] = take(places, "a")
    taken = places.try_enter("a"), places.occupancy()

    leave()

    assert taken == (None, Occupancy(size=1, taken=1, waiting=0))
    assert places.try_enter("a") is not None


def test_without_time_no_request_waits() -> None:
    places = Places(1, line=1)
    take(places, "a")

    with pytest.raises(NoPlace, match=r"1 of 1 places are taken, 0 requests wait; this client holds 0"):
        places.enter("b", 0)


def test_a_request_waits_until_a_place_is_left(lines: Lines) -> None:
    places = Places(1, line=1)
    [leave] = take(places, "a")
    waiting = lines.stand(places, "b")
    waited = waiting.done()

    leave()

    assert not waited
    waiting.result(LONG)()
    assert places.occupancy() == Occupancy(size=1, taken=0, waiting=0)


def test_a_request_is_refused_when_its_time_is_over_and_leaves_the_line(lines: Lines) -> None:
    places = Places(1, line=1)
    [leave] = take(places, "a")

    with pytest.raises(NoPlace):
        places.enter("b", 0.01)

    assert places.occupancy() == Occupancy(size=1, taken=1, waiting=0)
    leave()
    assert places.try_enter("b") is not None


def test_a_place_that_is_handed_over_at_the_last_moment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(1, line=1)
    [leave] = take(places, "a")

    class TooLate(threading.Event):
        """The time is over, and in the next moment the place is there."""

        def wait(self, timeout: float | None = None) -> bool:
            leave()
            return False

    waiter = api.places._Waiter
    monkeypatch.setattr(api.places, "_Waiter", lambda: waiter(woken=TooLate()))

    leave_again = places.enter("b", LONG)

    assert places.occupancy() == Occupancy(size=1, taken=1, waiting=0)
    leave_again()
    assert places.occupancy().taken == 0


def test_over_a_full_line_a_request_is_refused_at_once(lines: Lines) -> None:
    places = Places(1, line=1)
    [leave] = take(places, "a")
    waiting = lines.stand(places, "b")

    with pytest.raises(NoPlace, match="1 requests wait"):
        places.enter("c", LONG)

    leave()
    waiting.result(LONG)


def test_requests_of_one_client_have_their_turns_in_the_order_in_which_they_came(lines: Lines) -> None:
    places = Places(1, line=3)
    [leave] = take(places, "a")
    waiting = [lines.stand(places, "a") for _ in range(3)]

    done = []
    for expected in waiting:
        leave()
        leave = expected.result(LONG)
        done.append([one.done() for one in waiting])

    assert done == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_client_that_holds_fewer_is_served_before_one_that_waits_longer(lines: Lines) -> None:
    places = Places(3, line=4)
    leaves = take(places, "a", "a", "a")
    of_a = [lines.stand(places, "a") for _ in range(2)]
    of_b = [lines.stand(places, "b") for _ in range(2)]

    leaves[0]()
    of_b[0].result(LONG)
    leaves[1]()
    of_a[0].result(LONG)  # One each: the client that was served longest ago.

    assert [one.done() for one in (*of_a, *of_b)] == [True, False, True, False]
    leaves[2]()
    of_b[1].result(LONG)
    of_b[0].result()()
    of_a[1].result(LONG)


def test_one_client_takes_its_share_of_the_places_and_another_finds_the_rest() -> None:
    places = Places(4, share=3 / 4)
    leaves = take(places, "a", "a", "a")

    with pytest.raises(NoPlace, match="this client holds 3 places and may hold 3"):
        places.enter("a", 0)
    take(places, "b")
    leaves[0]()

    assert places.try_enter("a") is not None


def test_one_client_takes_its_share_of_the_line_and_another_waits_in_the_rest(lines: Lines) -> None:
    places = Places(1, line=4, share=3 / 4)
    [leave] = take(places, "a")
    waiting = [lines.stand(places, "a") for _ in range(3)]

    with pytest.raises(NoPlace):
        places.enter("a", LONG)
    waiting.append(lines.stand(places, "b"))

    leave()
    for turn in (0, 3, 1, 2):
        waiting[turn].result(LONG)()


def test_a_client_at_its_share_waits_and_others_pass_it(lines: Lines) -> None:
    places = Places(4, line=4, share=3 / 4)
    leaves = take(places, "a", "a", "a")
    waiting = lines.stand(places, "a")

    [other] = take(places, "b")
    other()
    passed = not waiting.done()
    leaves[0]()

    assert passed
    waiting.result(LONG)


def test_nothing_is_remembered_of_clients_that_have_left(lines: Lines) -> None:
    places = Places(1, line=1)
    for number in range(100):
        [leave] = take(places, f"client {number}")
        waiting = lines.stand(places, f"other {number}")
        leave()
        waiting.result(LONG)()

    assert (places._taken_by, places._waiters) == ({}, {})


def test_many_threads_never_hold_more_than_there_are_and_none_is_forgotten() -> None:
    places, held, most = Places(3, line=64, share=3 / 4), [], []

    def work(number: int) -> None:
        for _ in range(100):
            leave = places.enter("abc"[number % 3], LONG)
            held.append(number)
            most.append(len(held))
            held.pop()
            leave()

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(12)))

    assert max(most) <= 3
    assert places.occupancy() == Occupancy(size=3, taken=0, waiting=0)


@pytest.mark.parametrize("threads", [16, 17, 31, 64, 100, 256, 640, 1000])
def test_all_kinds_together_leave_threads_for_requests_that_need_no_place(threads: int) -> None:
    admission = Admission(threads)

    # The line in front of short bodies is apart: the calls in it have no other place yet.
    lines = {kind: 0 if kind is Kind.BODIES else places._line for kind, places in admission._places.items()}
    used = sum(places._size + lines[kind] for kind, places in admission._places.items())

    assert all(places._size >= 1 for places in admission._places.values())
    assert used < threads


@pytest.mark.parametrize("full", list(Kind))
def test_a_kind_whose_places_are_taken_leaves_the_others_alone(full: Kind) -> None:
    """K8: slow work, uploads, readers of results and workers do not keep each other out."""
    admission = Admission(64)
    while admission.try_enter(full, "a") or admission.try_enter(full, "b"):
        pass

    others = [kind for kind in Kind if kind is not full]

    assert all(admission.try_enter(kind, "a") for kind in others)
    with pytest.raises(Unavailable, match=f"kind {full}: .* of .* places are taken") as refused:
        admission.enter(full, "a", 0)
    assert refused.value.retry_after == 1


@pytest.mark.parametrize(
    ("clients", "taken"), [(1, {Kind.SLOW: 20, Kind.BODIES: 5}), (2, {Kind.SLOW: 15, Kind.BODIES: 5})]
)
def test_only_where_there_is_one_client_it_may_take_all(clients: int, taken: dict[Kind, int]) -> None:
    admission = Admission(64, clients=clients)
    for kind in taken:
        while admission.try_enter(kind, "a"):
            pass

    assert {kind: admission.occupancy()[kind].taken for kind in taken} == taken


@pytest.mark.parametrize("kind", [Kind.WAITS, Kind.WORKERS, Kind.BODIES, Kind.LARGE_BODIES])
def test_one_credential_cannot_take_all_places_that_workers_use(kind: Kind) -> None:
    admission = Admission(640, clients=1)
    while admission.try_enter(kind, "a"):
        pass

    assert admission.try_enter(kind, "b") is not None


def test_a_place_is_given_back_when_its_block_fails() -> None:
    admission = Admission(64)

    with pytest.raises(ZeroDivisionError), admission.place(Kind.QUICK, "a"):
        raise ZeroDivisionError

    assert admission.occupancy()[Kind.QUICK].taken == 0


@pytest.mark.parametrize(
    ("argv", "environ", "threads"),
    [
        (["--blocking-threads", "64", "api.wsgi:app"], {}, 64),
        (["--blocking-threads=64"], {}, 64),
        (["--blocking-threads", "1000"], {}, 640),
        (["--blocking-threads", "64"], {"GRANIAN_BLOCKING_THREADS": "128"}, 64),
        ([], {"GRANIAN_BLOCKING_THREADS": "128"}, 128),
        (["--blocking-threads"], {}, 640),
        (["--blocking-threads", "many"], {}, 640),
        ([], {}, 640),
    ],
)
def test_there_are_no_more_places_than_the_server_has_threads(
    argv: list[str], environ: dict[str, str], threads: int
) -> None:
    assert threads_of_server(["granian", *argv], environ, 640) == threads
