"""How a Celery worker bears a broker that is away: it still obeys, and it takes up its work again."""

from __future__ import annotations

from typing import Any

import celery
from celery.app import events
from celery.events.dispatcher import EventDispatcher
from celery.worker import request
from kombu.transport.virtual import QoS

__all__ = ["Dispatcher", "Events", "Request", "Task"]


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Celery's events, sent by the dispatcher below."""

    dispatcher_cls = "workers.outage:Dispatcher"


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """Tries each event once; one that fails is sent when the worker has connected again.

    Celery's heart repeats its beat for ever, in the very thread that also reconnects and ends the worker: on
    SIGTERM a worker without a broker went on until it was killed.
    """

    def send(self, type: str, *, retry: bool = False, **fields: Any) -> Any:  # Celery's name
        del retry
        return super().send(type, retry=False, **fields)


class Request(request.Request):  # type: ignore[misc]  # Celery has no types
    """A message counts as done with when its acknowledgement was lost, too; it may come again later.

    Celery logs such a loss and goes on counting the message against the prefetch limit: a worker that takes
    one at a time took none any more.
    """

    def acknowledge(self) -> None:
        super().acknowledge()
        if not self.message.acknowledged:
            # What Redis' own QoS does after it has told Redis.
            QoS.ack(self.message.channel.qos, self.message.delivery_tag)  # type: ignore[no-untyped-call]


class Task(celery.Task):  # type: ignore[misc]  # Celery has no types
    """A task whose messages are the requests above."""

    Request = "workers.outage:Request"
