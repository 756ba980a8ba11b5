"""The bookkeeper: writes what this process spent, and reads what all processes have spent."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from uuid import uuid4

from gifty_compute.clock import Clock
from gifty_compute.errors import GiftyComputeError
from gifty_compute.routing.spending import Spending, SpendingStore
from gifty_compute.wire.spending import Written

__all__ = ["Bookkeeper"]

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 1.0
# At a start the first reading is waited for, so that no budget is closed for a moment only.
_FIRST_SECONDS = 2.0
# A store that hangs must not keep a process from ending.
_LAST_SECONDS = 5.0


class Bookkeeper:
    """A thread beside the requests. A store that is away is logged once, when its absence begins.

    What is under way to the store goes under a number and is repeated under the same number until the store
    has confirmed it: an answer that was lost counts nothing twice. A process that is killed loses what it
    added in the last second; one that is told to stop writes it.
    """

    def __init__(self, spending: Spending, store: SpendingStore, clock: Clock) -> None:
        self._spending, self._store, self._clock = spending, store, clock
        self._writer, self._number = uuid4().hex, 0
        self._sending: Written = ()
        self._turn = threading.Lock()
        self._stop, self._read = threading.Event(), threading.Event()
        self._absent = False

    def refresh(self) -> None:
        """One round, now: writes, then reads. Raises what the store raises; nothing is lost by it."""
        with self._turn:
            if not self._sending and (lines := self._spending.unwritten()):
                self._number += 1
                self._sending = lines
            if self._sending:
                self._store.add(self._writer, self._number, self._sending)
                self._spending.written(self._sending)
                self._sending = ()
            since = self._clock.now().date() - timedelta(days=1)
            self._spending.learn(since, self._store.since(since))
        self._read.set()

    def start(self) -> None:
        """Returns when the spending of today was read, or 2 s later: then budgets stay closed until it is."""
        threading.Thread(target=self._run, name="bookkeeper", daemon=True).start()
        self._read.wait(_FIRST_SECONDS)

    def stop(self) -> None:
        """Writes what is left, if the store answers within 5 s."""
        if self._stop.is_set():
            return
        self._stop.set()
        last = threading.Thread(target=self._try, name="bookkeeper's last", daemon=True)
        last.start()
        last.join(_LAST_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._try()
            self._stop.wait(_PERIOD_SECONDS)

    def _try(self) -> None:
        try:
            self.refresh()
        except GiftyComputeError as error:
            if not self._absent:
                log.warning("spending is neither written nor read, it is kept in memory: %s", error)
            self._absent = True
        except Exception:  # the thread logs a fault and goes on: budgets wait for it
            log.exception("the bookkeeper failed")
        else:
            self._absent = False
