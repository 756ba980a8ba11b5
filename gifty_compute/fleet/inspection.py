"""Inspection: Flower's page of a worker asks that worker; the facade answers for poll workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Consumer
from kombu.pidbox import Mailbox

from gifty_compute.clock import Clock, Deadline
from gifty_compute.fleet.roster import Member, Roster

__all__ = ["Inspection"]


class Inspection:
    """Listens to what Flower asks of workers, for as long as the connection lasts.

    Whatever else is broadcast, a shutdown too, is not for poll workers and passes unheard.
    """

    def __init__(self, app: Celery, connection: Connection, roster: Roster, clock: Clock) -> None:
        self._connection, self._roster, self._clock = connection, roster, clock
        self._channel = connection.channel()
        self._mailbox: Mailbox = app.control.mailbox(connection)
        # The same name after each outage: what is bound stays noted in Redis.
        queue = self._mailbox.get_queue(f"fleet-{socket.gethostname()}-{os.getpid()}@pull")
        self._consumer = Consumer(self._channel, [queue], no_ack=True, callbacks=[self._hear])

    def __enter__(self) -> Inspection:
        self._consumer.consume()
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def answer_for(self, seconds: float) -> None:
        """Answers whatever comes within so many seconds."""
        until = Deadline.after(seconds, self._clock)
        while not until.expired:
            try:
                self._connection.drain_events(timeout=max(0.01, until.remaining))
            except TimeoutError:
                return

    def _hear(self, body: dict[str, Any], _message: object) -> None:
        answer = _ANSWERS.get(body.get("method", ""))
        reply_to = body.get("reply_to")
        if answer is None or not reply_to:
            return
        asked = body.get("destination")
        for node, member in self._roster.present().items():
            if asked is None or node in asked:
                self._mailbox._publish_reply(
                    {node: answer(member)},
                    reply_to["exchange"],
                    reply_to["routing_key"],
                    body.get("ticket"),
                    channel=self._channel,
                )


def _stats(member: Member) -> dict[str, Any]:
    """What Flower's page needs, `broker` and `total`; the words of the worker stand under Other there."""
    return {
        **member.info,
        "pid": os.getpid(),
        "pool": {"tasks in hand": member.active, "tasks so far": member.processed},
        "broker": {"transport": "none: it polls the facade over HTTP"},
        "total": {},
    }


_ANSWERS: dict[str, Callable[[Member], Any]] = {
    "stats": _stats,
    "conf": lambda member: dict(member.info),
    **dict.fromkeys(
        ("active_queues", "registered", "scheduled", "active", "reserved", "revoked"), lambda _: []
    ),
}
