"""One try to tell a receiver: judged, rendered, signed and sent now, and noted how it went."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from gifty_compute.callbacks.receivers import Receiver, Receivers
from gifty_compute.callbacks.rendering import Rendered, Rendering
from gifty_compute.callbacks.signing import Signer
from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import InvalidRequest, TransportError
from gifty_compute.logging import log_context
from gifty_compute.queue.outbox import Outbox
from gifty_compute.transport.base import HttpRequest, Transport
from gifty_compute.version import VERSION
from gifty_compute.wire.callback import Callback

__all__ = ["TRY_SECONDS", "Delivery", "Outcome", "Roads"]

log = logging.getLogger(__name__)

Outcome = Literal["delivered", "failed", "dead", "gone"]
TRY_SECONDS = 15.0


@dataclass(frozen=True)
class Roads:
    """How bytes reach receivers: `public` dials public addresses alone, `named` whatever a named host has."""

    public: Transport
    named: Transport


class Delivery:
    """Told means: a 2xx came within the try's seconds. What a receiver says beyond its status is not read."""

    def __init__(
        self,
        outbox: Outbox,
        receivers: Receivers,
        rendering: Rendering,
        signer: Signer,
        roads: Roads,
        clock: Clock,
        *,
        try_seconds: float = TRY_SECONDS,
    ) -> None:
        self._outbox, self._receivers, self._rendering = outbox, receivers, rendering
        self._signer, self._roads, self._clock, self._seconds = signer, roads, clock, try_seconds

    def deliver(self, callback: Callback) -> Outcome:
        """Tries once and notes it. Dying anywhere in here means that it is sent again, under the same id."""
        rendered = self._rendering.render(callback)
        if rendered is None:
            return "gone"
        about = {"request_id": rendered.request_id} if rendered.request_id else {}
        with log_context(**about):
            error = self._error(callback, rendered)
            if error is None:
                self._outbox.delivered(callback)
                return "delivered"
            return self.note_failure(callback, error)

    def note_failure(self, callback: Callback, error: str) -> Outcome:
        """Due again later, or dead; both are told to the log, without what was sent or answered."""
        fate = self._outbox.undelivered(callback, error)
        if fate == "dead":
            log.error("callback %s is given up at try %d: %s", callback.id, callback.tries, error)
            return "dead"
        log.info("callback %s: %s", callback.id, error)
        return "failed"

    def _error(self, callback: Callback, rendered: Rendered) -> str | None:
        """What speaks against the receiver having it; None when it has it."""
        try:
            receiver = self._receivers.admit(callback.url)
            status = self._post(receiver, callback, rendered)
        except (InvalidRequest, TransportError) as error:
            return error.message
        return None if 200 <= status < 300 else f"answered {status}"

    def _post(self, receiver: Receiver, callback: Callback, rendered: Rendered) -> int:
        headers = {
            "content-type": "application/json",
            "user-agent": f"gifty-compute/{VERSION}",
            **({"x-request-id": rendered.request_id} if rendered.request_id else {}),
            **self._signer.headers(callback.id, self._clock.now(), rendered.body),
        }
        request = HttpRequest("POST", receiver.url, headers, rendered.body)
        road = self._roads.named if receiver.is_named else self._roads.public
        with road.stream(request, Deadline.after(self._seconds, self._clock)) as answer:
            return answer.status
