"""The sender: takes what is due and delivers it, several at once, slow receivers beside quick ones."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from gifty_compute.callbacks.delivery import Delivery, Outcome
from gifty_compute.callbacks.metrics import CallbackMetrics
from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.outbox import Outbox
from gifty_compute.wire.callback import Callback

__all__ = ["CallbackSender"]

log = logging.getLogger(__name__)

_IN_FLIGHT = 32
# Of one receiver; of one whose last try failed, only one: ten slow receivers leave the others their place.
_EACH = 8
_LOOK_SECONDS = 10.0


class CallbackSender:
    """Runs in every facade process beside `maintain`; leases keep the processes out of each other's way."""

    def __init__(
        self, outbox: Outbox, delivery: Delivery, clock: Clock, metrics: CallbackMetrics, *, period: float
    ) -> None:
        self._outbox, self._delivery, self._clock = outbox, delivery, clock
        self._metrics, self._period = metrics, period
        self._guard = threading.Lock()
        self._flying: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._wake, self._stop = threading.Event(), threading.Event()

    def start(self) -> None:
        """Begins in a thread of its own; each try has one, too, for as long as it takes."""
        threading.Thread(target=self._loop, name="callbacks", daemon=True).start()

    def stop(self) -> None:
        """Takes nothing more. What is under way goes on by itself, or is sent again by another process."""
        self._stop.set()
        self._wake.set()

    def send_due(self) -> int:
        """Begins as many tries as may be made now; how many."""
        with self._guard:
            free = _IN_FLIGHT - self._flying.total()
            busy = [name for name, count in self._flying.items() if count >= self._most(name)]
        taken = self._outbox.lease(limit=free, busy=busy) if free > 0 else []
        for callback in taken:
            with self._guard:
                self._flying[callback.receiver] += 1
            threading.Thread(target=self._send, args=(callback,), name="callback", daemon=True).start()
        return len(taken)

    def _most(self, receiver: str) -> int:
        return 1 if receiver in self._failing else _EACH

    def _loop(self) -> None:
        look = Deadline.after(0, self._clock)
        while not self._stop.is_set():
            self._wake.clear()
            taken = 0
            try:
                taken = self.send_due()
                if look.expired:
                    self._metrics.looked(self._outbox.counts())
                    look = Deadline.after(_LOOK_SECONDS, self._clock)
            except StoreUnavailable as error:
                log.warning("callbacks: %s", error)
            except Exception:
                # Callers wait for what this loop sends; it must outlive a fault of its own, and say so.
                log.exception("callbacks: sending failed")
            if not taken:
                self._wake.wait(self._period)

    def _send(self, callback: Callback) -> None:
        began = self._clock.monotonic()
        outcome: Outcome = "failed"
        try:
            outcome = self._try(callback)
        except StoreUnavailable as error:
            # Whatever was sent, nothing is noted: it is sent again when the lease has run out.
            log.warning("callback %s: %s", callback.id, error)
        finally:
            self._landed(callback.receiver, outcome)
            self._metrics.tried(outcome, self._clock.monotonic() - began)

    def _try(self, callback: Callback) -> Outcome:
        try:
            return self._delivery.deliver(callback)
        except StoreUnavailable:
            raise
        except Exception:
            # One that cannot even be rendered must come to its end like any other.
            log.exception("callback %s: a fault of ours", callback.id)
            return self._delivery.note_failure(callback, "a fault of ours; the log has it")

    def _landed(self, receiver: str, outcome: Outcome) -> None:
        with self._guard:
            self._flying[receiver] -= 1
            if not self._flying[receiver]:
                del self._flying[receiver]
            if outcome == "delivered":
                self._failing.discard(receiver)
            else:
                self._failing.add(receiver)
        self._wake.set()
