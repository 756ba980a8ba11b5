"""The poller of waiting callers: whom it wakes, and how many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.waits import Poller

_LONG = 30.0


class Store:
    """Answers what it is told to, and notes what it was asked for."""

    def __init__(self) -> None:
        self.ready: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.fails = False
        self._asked_again = threading.Condition()

    def __call__(self, keys: list[str]) -> Mapping[str, int]:
        with self._asked_again:
            self.asked.append(sorted(keys))
            self._asked_again.notify_all()
        if self.fails:
            raise StoreUnavailable
        answer, self.ready = self.ready, {}
        return answer

    def wait_until_asked_for(self, keys: list[str]) -> None:
        with self._asked_again:
            assert self._asked_again.wait_for(lambda: bool(self.asked) and self.asked[-1] == keys, _LONG)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def poller(store: Store) -> Poller[str]:
    return Poller("test", store)


@pytest.fixture
def wait(poller: Poller[str]) -> Iterator[Callable[..., Future[bool]]]:
    with ThreadPoolExecutor(8) as threads:
        yield lambda *keys, seconds=_LONG: threads.submit(poller.wait, keys, seconds)


def test_a_caller_is_woken_by_any_of_its_keys(store: Store, wait: Callable[..., Future[bool]]) -> None:
    woken = wait("a", "b")
    store.wait_until_asked_for(["a", "b"])

    store.ready = {"b": 1}

    assert woken.result(_LONG) is True


def test_as_many_are_woken_as_there_is_work_for_in_the_order_of_their_coming(
    store: Store, wait: Callable[..., Future[bool]]
) -> None:
    first = wait("a", "b")
    store.wait_until_asked_for(["a", "b"])
    second = wait("a", "c")
    store.wait_until_asked_for(["a", "b", "c"])

    store.ready = {"a": 1}

    assert first.result(_LONG) is True
    store.wait_until_asked_for(["a", "c"])
    assert not second.done()
    store.ready = {"a": 5}
    assert second.result(_LONG) is True


def test_a_wait_ends_with_its_seconds_and_leaves_nothing(
    store: Store, poller: Poller[str], wait: Callable[..., Future[bool]]
) -> None:
    assert wait("a", seconds=0.01).result(_LONG) is False
    assert poller._waiting == {}


def test_who_waits_for_nothing_is_not_asked_for(store: Store, wait: Callable[..., Future[bool]]) -> None:
    assert wait(seconds=0.2).result(_LONG) is False
    assert store.asked == []


def test_a_store_that_is_away_is_asked_again(store: Store, wait: Callable[..., Future[bool]]) -> None:
    store.fails = True
    woken = wait("a")
    store.wait_until_asked_for(["a"])

    store.fails, store.ready = False, {"a": 1}

    assert woken.result(_LONG) is True
