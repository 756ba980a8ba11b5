"""Announcements, through an app that notes what it is asked to send."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from gifty_compute.queue.announce import _QUIET_SECONDS, Announcer
from gifty_compute.wire.task import Task
from tests.unit.conftest import HandClock


class Broker:
    """A Celery app as the announcer knows it: it sends, and counts a queue's waiting messages."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.waiting: dict[str, int] = {}
        self.error: Exception | None = None
        self.fails_after: int | None = None
        self.calls = 0

    def send_task(self, name: str, **options: Any) -> None:
        self._dial()
        self.sent.append((name, options))

    @contextmanager
    def connection_for_write(self) -> Iterator[Any]:
        self._dial()
        yield SimpleNamespace(default_channel=self)

    def queue_declare(self, queue: str, *, passive: bool) -> Any:
        assert passive
        if queue not in self.waiting:
            raise ChannelError
        return SimpleNamespace(message_count=self.waiting[queue])

    def _dial(self) -> None:
        self.calls += 1
        if self.error is not None and (self.fails_after is None or self.calls > self.fails_after):
            raise self.error


def task() -> Task:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Task(
        id=uuid4(),
        task_type="embedding",
        priority="low",
        status="pending",
        payload={"texts": ["canary-7f3a"]},
        metadata={"customer": "canary-7f3a"},
        created_at=now,
        updated_at=now,
        attempt=0,
        failures=0,
        max_attempts=5,
        model="bge-m3",
    )


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def announcer(broker: Broker, clock: HandClock) -> Announcer:
    return Announcer(broker, clock)  # type: ignore[arg-type]


# -- one task ------------------------------------------------------------------------------------------------


def test_a_task_is_announced_under_its_own_id_in_the_queue_of_its_type_and_model(
    announcer: Announcer, broker: Broker
) -> None:
    one = task()

    assert announcer.announce(one)

    assert broker.sent == [
        (
            "gifty.embedding",
            {
                "args": ["bge-m3", [str(one.id)]],
                "task_id": str(one.id),
                "queue": "embedding.bge-m3",
                "retry": False,
            },
        )
    ]


def test_no_message_carries_anything_of_the_payload(announcer: Announcer, broker: Broker) -> None:
    announcer.announce(task())
    announcer.follow_up("embedding", "bge-m3")

    assert "canary" not in json.dumps(broker.sent)


def test_a_follow_up_names_no_task_and_has_an_id_of_its_own(announcer: Announcer, broker: Broker) -> None:
    announcer.follow_up("rerank", "m")
    announcer.follow_up("rerank", "m")

    (name, first), (_, second) = broker.sent
    assert (name, first["args"], first["queue"]) == ("gifty.rerank", ["m", []], "rerank.m")
    assert UUID(first["task_id"]) != UUID(second["task_id"])


# -- a broker that fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OperationalError("refused"), RedisConnectionError(), ConnectionResetError(), TimeoutError()]
)
def test_a_broker_that_fails_is_told_by_the_answer_and_raises_nothing(
    announcer: Announcer, broker: Broker, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    broker.error = error

    assert announcer.announce(task()) is False
    assert "broker not reached" in caplog.text


def test_a_broker_that_failed_is_left_alone_for_a_while(
    announcer: Announcer, broker: Broker, clock: HandClock
) -> None:
    broker.error = OperationalError("refused")
    announcer.announce(task())
    broker.error = None

    clock.advance(_QUIET_SECONDS - 0.5)
    assert announcer.announce(task()) is False
    assert announcer.follow_up("embedding", "bge-m3") is False
    assert announcer.catch_up({("embedding", "bge-m3"): 5}) == 0
    assert broker.calls == 1

    clock.advance(0.5)
    assert announcer.announce(task()) is True


def test_each_failure_begins_the_quiet_anew(announcer: Announcer, broker: Broker, clock: HandClock) -> None:
    broker.error = OperationalError("refused")
    announcer.announce(task())
    clock.advance(_QUIET_SECONDS)
    announcer.announce(task())

    clock.advance(_QUIET_SECONDS - 0.5)
    announcer.announce(task())

    assert broker.calls == 2


def test_an_error_of_our_own_is_not_taken_for_the_brokers(announcer: Announcer, broker: Broker) -> None:
    broker.error = TypeError("a bug")

    with pytest.raises(TypeError):
        announcer.announce(task())


def test_the_warning_about_a_broker_quotes_no_address(
    announcer: Announcer, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broker.error = OperationalError("redis://:canary-secret@host refused")

    announcer.announce(task())

    assert "canary" not in caplog.text


# -- catching up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "waiting", "published"),
    [
        (0, None, 0),
        (1, None, 1),
        (20, None, 1),
        (21, None, 2),
        (21, 1, 1),
        (21, 2, 0),
        (21, 9, 0),
        (320, None, 16),
        (10_000_000, None, 16),
        (10_000_000, 15, 1),
        (10_000_000, 16, 0),
    ],
)
def test_a_queue_is_topped_up_to_a_message_per_twenty_ready_rows_and_sixteen_at_most(
    announcer: Announcer, broker: Broker, ready: int, waiting: int | None, published: int
) -> None:
    if waiting is not None:
        broker.waiting["embedding.bge-m3"] = waiting

    assert announcer.catch_up({("embedding", "bge-m3"): ready}) == published

    assert [(name, options["args"]) for name, options in broker.sent] == [
        ("gifty.embedding", ["bge-m3", []])
    ] * published


def test_each_queue_is_measured_by_itself(announcer: Announcer, broker: Broker) -> None:
    broker.waiting = {"embedding.a": 1, "rerank.b": 0}

    published = announcer.catch_up({("embedding", "a"): 40, ("rerank", "b"): 5, ("classify", "c"): 1})

    assert published == 3
    assert [options["queue"] for _, options in broker.sent] == ["embedding.a", "rerank.b", "classify.c"]


def test_a_broker_that_fails_in_the_middle_ends_the_round_with_what_was_published(
    announcer: Announcer, broker: Broker
) -> None:
    # One call counts the queue, two messages go out, the third does not.
    broker.error, broker.fails_after = OperationalError("gone"), 3

    assert announcer.catch_up({("embedding", "a"): 100, ("rerank", "b"): 100}) == 2
    assert broker.calls == 4


def test_a_broker_that_cannot_be_counted_is_sent_nothing(announcer: Announcer, broker: Broker) -> None:
    broker.error = OperationalError("gone")

    assert announcer.catch_up({("embedding", "a"): 100}) == 0
    assert broker.sent == []


def test_a_queue_that_nobody_reads_is_told_of_no_further_than_to_a_bound(
    announcer: Announcer, broker: Broker, clock: HandClock
) -> None:
    broker.waiting["embedding.bge-m3"] = 1000
    told_when_full = announcer.announce(task())
    broker.waiting["embedding.bge-m3"] = 0
    told_at_once = announcer.announce(task())

    clock.advance(1.1)
    told_later = announcer.announce(task())

    assert (told_when_full, told_at_once, told_later) == (False, False, True)
    assert len(broker.sent) == 1


def test_the_count_is_asked_for_once_a_second_not_for_each_submit(
    announcer: Announcer, broker: Broker
) -> None:
    for _ in range(100):
        announcer.announce(task())

    assert len(broker.sent) == 100
    assert broker.calls == 101
