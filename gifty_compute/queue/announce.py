"""Announcements: Celery messages that say "there is work in this queue". They carry ids, never payloads.

Losing, doubling or delaying one changes nothing but time: the row is the truth, and `catch_up` tells Celery
again of whatever is ready while the broker's own queue is short.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from uuid import uuid4

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from gifty_compute.clock import Clock
from gifty_compute.wire.task import Task

__all__ = ["Announcer", "queue_name", "task_name"]

log = logging.getLogger(__name__)

# A worker goes on claiming after the announced ids, so one message stands for about this many rows.
_ROWS_A_MESSAGE = 20
_MOST_OUTSTANDING = 16
# Single submits publish a message each, as long as fewer wait; about 1 kB of Redis a message.
_MOST_WAITING = 1000
_COUNT_SECONDS = 1.0
# After a broker failed, submits do not wait for it again for so long; catch_up makes good for them.
_QUIET_SECONDS = 5.0


def queue_name(task_type: str, model: str) -> str:
    """The Celery queue of a kind of work by a model.

    >>> queue_name("embedding", "bge-m3")
    'embedding.bge-m3'
    """
    return f"{task_type}.{model}"


def task_name(task_type: str) -> str:
    """The Celery task that does a type; the facade announces by name and imports no worker code."""
    return f"gifty.{task_type}"


class Announcer:
    """Publishes, best effort and with a short timeout, through the Celery app that it is given."""

    def __init__(self, app: Celery, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._quiet_until = 0.0
        self._guard = threading.Lock()
        self._short: dict[str, tuple[float, bool]] = {}

    def announce(self, task: Task) -> bool:
        """One message for one task, under the task's own id, so that Flower finds it. False: not told.

        A queue that nobody consumes is told of no further than to a bound; `catch_up` does the rest.
        """
        queue = queue_name(task.task_type, str(task.model))
        if not self._is_short(queue):
            return False
        return self._publish(
            lambda: self._send(task.task_type, str(task.model), [str(task.id)], str(task.id))
        )

    def follow_up(self, task_type: str, model: str) -> bool:
        """One message for whatever is ready in a queue; a worker leaves it when it stops before the end."""
        return self._publish(lambda: self._send(task_type, model, [], str(uuid4())))

    def catch_up(self, backlog: Mapping[tuple[str, str], int]) -> int:
        """Tops up each queue's messages to what its ready rows deserve; gives the number published.

        The broker's own count of waiting messages is the measure, so a flushed broker heals by itself and ten
        million rows do not fill it.
        """
        published = 0
        for (task_type, model), ready in backlog.items():
            wanted = min(_MOST_OUTSTANDING, -(-ready // _ROWS_A_MESSAGE))
            waiting = self._waiting(queue_name(task_type, model))
            if waiting is None:
                return published
            for _ in range(wanted - waiting):
                if not self.follow_up(task_type, model):
                    return published
                published += 1
        return published

    def _is_short(self, queue: str) -> bool:
        """Whether few messages wait there, by a count that is at most a second old."""
        now = self._clock.monotonic()
        with self._guard:
            until, short = self._short.get(queue, (0.0, True))
            if now < until:
                return short
            # Whoever comes meanwhile goes by the old count.
            self._short[queue] = (now + _COUNT_SECONDS, short)
        waiting = self._waiting(queue)
        short = waiting is None or waiting < _MOST_WAITING
        with self._guard:
            self._short[queue] = (now + _COUNT_SECONDS, short)
        return short

    def _send(self, task_type: str, model: str, ids: list[str], message_id: str) -> None:
        self._app.send_task(
            task_name(task_type),
            args=[model, ids],
            task_id=message_id,
            queue=queue_name(task_type, model),
            retry=False,
        )

    def _waiting(self, queue: str) -> int | None:
        def count() -> int:
            with self._app.connection_for_write() as connection:
                try:
                    return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
                except ChannelError:
                    return 0  # A Redis list that holds nothing does not exist.

        counted: list[int] = []
        return counted[0] if self._publish(lambda: counted.append(count())) else None

    def _publish(self, action: Callable[[], object]) -> bool:
        with self._guard:
            if self._clock.monotonic() < self._quiet_until:
                return False
        try:
            action()
        except (OperationalError, RedisError, OSError) as error:
            log.warning("broker not reached (%s); maintain will announce", type(error).__name__)
            with self._guard:
                self._quiet_until = self._clock.monotonic() + _QUIET_SECONDS
            return False
        return True
