"""The herald: one thread that tells the broker, and so Flower, of the poll workers of this process."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from celery.events.event import get_exchange
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from gifty_compute.clock import Clock
from gifty_compute.fleet.events import FREQ_SECONDS, Event, TaskNote, heartbeat, offline
from gifty_compute.fleet.inspection import Inspection
from gifty_compute.fleet.roster import Roster

__all__ = ["SILENCE_SECONDS", "Herald"]

log = logging.getLogger(__name__)

# After so long Flower takes a worker for gone by itself; it is told, for those who count who left.
SILENCE_SECONDS = 2 * FREQ_SECONDS
# Of two or three events a task; what does not fit is the oldest and is missing in Flower, nowhere else.
_MOST_WAITING = 10_000
_MOST_A_MESSAGE = 500
_PERIOD_SECONDS = 0.25
# How often Flower is told of a worker that speaks on and on: every 5 seconds.
_BEATS_A_SILENCE = 18
_PAUSE_SECONDS = 5.0
_SEEN = "gifty:fleet:"


class Herald:
    """Sends what it is told to send, best effort: without a broker the oldest is forgotten, nobody waits.

    A worker may speak to several facade processes. Each leaves a mark in Redis for whom it heard, and takes
    a worker for gone only when nobody else has left one.
    """

    def __init__(
        self, app: Celery, roster: Roster, clock: Clock, silence: float, registry: CollectorRegistry
    ) -> None:
        self._app, self._roster, self._clock, self._silence = app, roster, clock, silence
        self._waiting: deque[Event | TaskNote] = deque(maxlen=_MOST_WAITING)
        self._counted = Counter("gifty_fleet_events", "Events of poll workers", ("what",), registry=registry)
        self._self = uuid4().hex.encode()
        self._stop = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, seconds: float) -> None:
        """After `stop`: until the thread is over, at most so long."""
        self._thread.join(seconds)

    def tell(self, notes: Sequence[Event | TaskNote]) -> None:
        """To be sent soon, or never; returns at once."""
        lost = max(0, len(self._waiting) + len(notes) - _MOST_WAITING)
        self._waiting.extend(notes)
        if lost:
            self._counted.labels("lost").inc(lost)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._app.connection_for_write() as connection:
                    self._serve(connection)
            except (OperationalError, RedisError, OSError) as error:
                if not self._away:
                    log.warning("the broker is away, Flower misses poll workers: %s", type(error).__name__)
                self._away = True
            except Exception:
                # What is shown must not depend on what once went wrong in showing it.
                log.exception("telling of the fleet failed; it begins anew")
            self._stop.wait(_PAUSE_SECONDS)

    def _serve(self, connection: Connection) -> None:
        with Inspection(self._app, connection, self._roster, self._clock) as inspection:
            while not self._stop.is_set():
                inspection.answer_for(_PERIOD_SECONDS)
                self._send(connection, self._beats(connection) + self._left(connection))
                self._away = False

    def _beats(self, connection: Connection) -> list[Event]:
        due = self._roster.due(self._clock.monotonic(), self._silence / _BEATS_A_SILENCE)
        if due:
            pipe = _redis(connection).pipeline(transaction=False)
            for node, _ in due:
                pipe.set(_SEEN + node, self._self, px=round(self._silence * 1000))
            pipe.execute()
        at = self._clock.now().timestamp()
        return [heartbeat(node, at, member) for node, member in due]

    def _left(self, connection: Connection) -> list[Event]:
        silent = self._roster.drop_silent(self._clock.monotonic())
        at = self._clock.now().timestamp()
        client = _redis(connection)
        return [offline(node, at) for node in silent if client.get(_SEEN + node) in (None, self._self)]

    def _send(self, connection: Connection, more: list[Event]) -> None:
        """Everything in messages of many events, as Celery's own workers send those of tasks."""
        noted = [self._waiting.popleft() for _ in range(len(self._waiting))]
        told = [event for one in noted for event in (one.events() if isinstance(one, TaskNote) else [one])]
        told += more
        exchange = get_exchange(connection, name=self._app.conf.event_exchange)
        producer = Producer(connection.default_channel, exchange=exchange, serializer="json")
        for start in range(0, len(told), _MOST_A_MESSAGE):
            body = [self._written(event) for event in told[start : start + _MOST_A_MESSAGE]]
            producer.publish(body, routing_key="task.multi", delivery_mode=1, declare=[exchange], retry=False)
            self._counted.labels("sent").inc(len(body))

    def _written(self, event: Event) -> dict[str, Any]:
        """As Celery's dispatcher writes it; the clock is what Flower puts events in order by."""
        return {
            "type": event.type,
            "hostname": event.node,
            "timestamp": event.at,
            "utcoffset": 0,
            "pid": os.getpid(),
            "clock": self._app.clock.forward(),
            **event.fields,
        }


def _redis(connection: Connection) -> redis.Redis:
    """The client that kombu's channel uses: a mark costs no connection of its own."""
    client: redis.Redis = connection.default_channel.client  # type: ignore[attr-defined]  # of this transport
    return client
