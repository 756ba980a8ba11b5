"""What the processes of a service know of each other's circuits and sums, on a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import redis

from gifty_compute.clock import SystemClock
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.shared.counters import RedisCounters
from gifty_compute.shared.marks import RedisMarks
from gifty_compute.shared.sync import Sync
from gifty_compute.windows import Sum, Window
from tests.e2e.service import eventually

CLOCK = SystemClock()
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(valkey.url, socket_timeout=5)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def gone() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(NOWHERE, socket_timeout=0.1, socket_connect_timeout=0.1)
    yield client
    client.close()


# -- circuits ------------------------------------------------------------------------------------------------


def test_a_circuit_that_one_process_opened_is_open_for_the_other(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)

    one.open("runpod/1/embedding/ab", 30)
    one.refresh()
    assert other.remaining("runpod/1/embedding/ab") == 0
    other.refresh()

    assert 29 < other.remaining("runpod/1/embedding/ab") <= 30
    assert other.remaining("runpod/2/embedding/ab") == 0


def test_closing_it_frees_the_others_with_their_next_look(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    one.open("a", 30)
    one.refresh()
    other.refresh()

    one.close("a")
    one.refresh()
    other.refresh()

    assert other.remaining("a") == 0
    assert not other.half_open("a")
    assert client.zcard("gifty:circuits") == 0


def test_a_shorter_word_does_not_shorten_a_longer_one(client: redis.Redis) -> None:
    marks = RedisMarks(client, CLOCK)

    marks.open("a", 300)
    marks.open("a", 5)
    marks.refresh()
    marks.open("a", 5)
    marks.refresh()

    assert marks.remaining("a") > 200


def test_a_mark_whose_time_is_over_is_half_open_for_all_until_one_closes_it(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    one.open("a", -1)

    one.refresh()
    other.refresh()

    assert (other.remaining("a"), other.half_open("a")) == (0, True)
    assert not other.half_open("b")


def test_a_mark_that_nobody_closed_is_forgotten_after_an_hour(client: redis.Redis) -> None:
    marks = RedisMarks(client, CLOCK)
    marks.open("a", -3601)

    marks.refresh()

    assert not marks.half_open("a")
    assert client.zcard("gifty:circuits") == 0


@pytest.mark.parametrize("end", ["open", "close", "give_up"])
def test_a_trial_is_one_processs_until_it_says_how_it_went(client: redis.Redis, end: str) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)

    assert one.trial("a", 30)
    assert not other.trial("a", 30)
    getattr(one, end)(*(("a", 1.0) if end == "open" else ("a",)))
    one.refresh()

    assert other.trial("a", 30)


def test_without_redis_each_process_is_on_its_own(gone: redis.Redis) -> None:
    marks = RedisMarks(gone, CLOCK)

    marks.open("a", 30)
    marks.close("a")

    assert marks.remaining("a") == 0
    assert marks.trial("a", 30)


def test_what_was_said_while_redis_was_away_is_told_when_it_is_back(
    client: redis.Redis, gone: redis.Redis
) -> None:
    marks, other = RedisMarks(gone, CLOCK), RedisMarks(client, CLOCK)
    marks.open("a", 30)
    with pytest.raises(redis.RedisError):
        marks.refresh()

    marks._client = client
    marks.refresh()
    other.refresh()

    assert other.remaining("a") > 20


def test_telling_the_others_never_waits_for_redis() -> None:
    """A client that fails whoever asks it."""
    marks = RedisMarks(cast("redis.Redis", None), CLOCK)

    marks.open("a", 30)
    marks.give_up("b")
    marks.close("a")


def test_a_redis_that_lost_its_data_closes_no_circuit_that_a_process_knows_to_be_open(
    client: redis.Redis,
) -> None:
    """K1: what was learnt from Redis has its own lifetime, not that of Redis's memory."""
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    one.open("a", 30)
    one.refresh()
    other.refresh()

    client.flushdb()
    other.refresh()
    third = RedisMarks(client, CLOCK)
    third.refresh()

    assert other.remaining("a") > 20
    assert third.remaining("a") > 20


def test_a_redis_that_lost_its_data_opens_no_circuit_that_was_closed(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    one.open("a", 30)
    for marks in (one, other):
        marks.refresh()
    one.close("a")
    for marks in (one, other):
        marks.refresh()

    client.flushdb()
    for marks in (one, other):
        marks.refresh()

    assert (one.remaining("a"), other.remaining("a")) == (0, 0)


# -- sums ----------------------------------------------------------------------------------------------------

MINUTE_1 = Sum("a", Window(60, 10))


class Hand(SystemClock):
    """A wall clock that stands in the window of MINUTE_1 until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.fromtimestamp(10 * 60 + 5, UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_what_two_processes_add_is_one_sum(client: redis.Redis, hand: Hand) -> None:
    one, other = RedisCounters(client, hand), RedisCounters(client, hand)

    one.add(MINUTE_1, 0.25)
    other.add(MINUTE_1, 0.5)
    assert (one.total(MINUTE_1), other.total(MINUTE_1)) == (0.25, 0.5)
    for _ in range(2):
        one.refresh()
        other.refresh()

    assert one.total(MINUTE_1) == other.total(MINUTE_1) == pytest.approx(0.75)


def test_a_process_that_never_added_sees_the_sum_once_it_asked(client: redis.Redis, hand: Hand) -> None:
    one, other = RedisCounters(client, hand), RedisCounters(client, hand)
    one.add(MINUTE_1, 3)
    one.refresh()

    assert other.total(MINUTE_1) == 0
    other.refresh()

    assert other.total(MINUTE_1) == 3


@pytest.mark.parametrize("read_first", [True, False])
def test_a_sum_is_kept_as_long_as_its_window_asks_in_any_order_of_calls(
    client: redis.Redis, hand: Hand, read_first: bool
) -> None:
    """K1: a read made the sum with a lifetime of 0, and Redis kept it for a second."""
    counters = RedisCounters(client, hand)
    if read_first:
        counters.total(MINUTE_1)
        counters.refresh()
    counters.add(MINUTE_1, 1)

    counters.refresh()

    assert 110 < client.ttl(f"gifty:sums:{MINUTE_1.key}") <= 120


def test_a_correction_is_known_to_the_others(client: redis.Redis, hand: Hand) -> None:
    one, other = RedisCounters(client, hand), RedisCounters(client, hand)
    one.add(MINUTE_1, 90)
    one.refresh()
    other.total(MINUTE_1)
    other.refresh()

    one.add(MINUTE_1, -80)
    one.refresh()
    other.refresh()

    assert other.total(MINUTE_1) == 10


def test_a_redis_that_lost_its_data_gets_it_back_and_no_process_forgets(
    client: redis.Redis, hand: Hand
) -> None:
    one, other = RedisCounters(client, hand), RedisCounters(client, hand)
    one.add(MINUTE_1, 3)
    other.add(MINUTE_1, 4)
    for _ in range(2):
        one.refresh()
        other.refresh()

    client.flushdb()
    one.refresh()
    assert (one.total(MINUTE_1), other.total(MINUTE_1)) == (7, 7)
    other.refresh()

    third = RedisCounters(client, hand)
    third.total(MINUTE_1)
    third.refresh()
    assert third.total(MINUTE_1) == 7


def test_a_process_that_starts_again_adds_to_what_it_had_added(client: redis.Redis, hand: Hand) -> None:
    before = RedisCounters(client, hand)
    before.add(MINUTE_1, 3)
    before.refresh()

    after = RedisCounters(client, hand)
    after.add(MINUTE_1, 1)
    after.refresh()

    assert after.total(MINUTE_1) == 4


def test_a_write_whose_answer_is_lost_counts_once(client: redis.Redis, hand: Hand) -> None:
    counters = RedisCounters(client, hand)
    counters.add(MINUTE_1, 2)

    counters.refresh()
    counters.refresh()

    assert counters.total(MINUTE_1) == 2


def test_sums_are_forgotten_a_window_after_their_own_and_not_before(client: redis.Redis, hand: Hand) -> None:
    counters = RedisCounters(client, hand)
    counters.add(MINUTE_1, 2)

    hand.moment += timedelta(seconds=114)
    counters.refresh()
    assert counters.total(MINUTE_1) == 2
    hand.moment += timedelta(seconds=2)
    counters.refresh()

    assert counters._entries == {}


def test_the_last_place_is_taken_once(client: redis.Redis, hand: Hand) -> None:
    counters = RedisCounters(client, hand)

    assert [counters.take(MINUTE_1, 1, 2) for _ in range(3)] == [True, True, False]


def test_without_redis_the_own_sum_counts_and_is_carried_over_later(
    client: redis.Redis, gone: redis.Redis, hand: Hand
) -> None:
    counters = RedisCounters(gone, hand)
    counters.add(MINUTE_1, 2)

    with pytest.raises(redis.RedisError):
        counters.refresh()
    assert counters.total(MINUTE_1) == 2

    counters._client = client
    counters.refresh()
    other = RedisCounters(client, hand)
    other.total(MINUTE_1)
    other.refresh()
    assert (counters.total(MINUTE_1), other.total(MINUTE_1)) == (2, 2)


def test_an_absence_of_redis_is_logged_once(gone: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    sync = Sync([RedisMarks(gone, CLOCK)])

    sync.refresh()
    sync.refresh()

    assert len([record for record in caplog.records if "Redis is away" in record.message]) == 1


# -- why, and by hand ----------------------------------------------------------------------------------------


def test_the_cause_comes_with_the_mark_and_goes_with_it(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)

    one.open("a", 30, '{"code": "bad_key"}')
    one.refresh()
    other.refresh()
    assert (other.names(), other.cause("a")) == (["a"], '{"code": "bad_key"}')

    one.close("a")
    one.refresh()
    other.refresh()
    assert (other.names(), other.cause("a")) == ([], "")
    assert client.hlen("gifty:circuits:causes") == 0


def test_the_cause_is_that_of_the_longest_mark(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    one.open("a", 300, "long")
    one.refresh()

    other.open("a", 5, "short")
    other.refresh()

    assert other.cause("a") == "long"


def test_a_reset_reaches_a_process_that_knows_the_circuit_by_itself(client: redis.Redis) -> None:
    one, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    failed_at = CLOCK.monotonic()
    one.open("a", 30)
    one.refresh()
    other.refresh()

    other.reset("a")
    assert other.was_reset("a", failed_at)
    other.refresh()
    one.refresh()

    assert one.was_reset("a", failed_at)
    assert not one.was_reset("a", CLOCK.monotonic() + 1)
    assert (one.remaining("a"), other.remaining("a")) == (0, 0)


def test_what_was_seen_before_a_reset_opens_nothing_after_it(client: redis.Redis) -> None:
    straggler, other = RedisMarks(client, CLOCK), RedisMarks(client, CLOCK)
    straggler.open("a", 30)

    other.reset("a")
    other.refresh()
    straggler.refresh()
    other.refresh()
    assert (straggler.remaining("a"), other.remaining("a")) == (0, 0)

    def opens_again() -> bool:
        straggler.open("a", 30)
        straggler.refresh()
        other.refresh()
        return other.remaining("a") > 0

    eventually(opens_again, within=10, what="what is seen after the reset counts")


def test_a_reset_while_redis_is_away_is_told_when_it_is_back(client: redis.Redis, gone: redis.Redis) -> None:
    marks, other = RedisMarks(gone, CLOCK), RedisMarks(client, CLOCK)
    other.open("a", 30)
    other.refresh()
    # The words of two processes may differ by a tenth of a second on their way.
    failed_at = CLOCK.monotonic() - 0.1
    marks.reset("a")
    with pytest.raises(redis.RedisError):
        marks.refresh()

    marks._client = client
    marks.refresh()
    other.refresh()

    assert other.was_reset("a", failed_at)
    assert other.remaining("a") == 0


def test_a_mark_of_an_older_version_has_no_cause_and_counts(client: redis.Redis) -> None:
    seconds, micros = cast("tuple[int, int]", client.time())
    client.zadd("gifty:circuits", {"a": seconds * 1000 + micros // 1000 + 30_000})
    marks = RedisMarks(client, CLOCK)

    marks.refresh()

    assert marks.remaining("a") > 20
    assert marks.cause("a") == ""


def test_a_process_that_ends_tells_what_it_counted_last(client: redis.Redis) -> None:
    """The scripted day: each restart of a facade gave its clients the requests of its last half second."""
    ends, stays = RedisCounters(client, CLOCK), RedisCounters(client, CLOCK)
    requests = Sum("client/shop", Window.at(CLOCK.now(), 3600))
    ends.add(requests, 3)

    Sync([ends]).stop()

    assert stays.total(requests) == 0
    stays.refresh()
    assert stays.total(requests) == 3
