"""The maintainer: makes a pass of all steps every period, in one process at a time.

It runs as a thread of every facade process and as a Celery task that beat sends; an advisory lock lets one of
them work at a time. It needs neither Redis nor a Celery worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from gifty_compute.clock import Clock
from gifty_compute.errors import StoreUnavailable
from gifty_compute.maintain.metrics import MaintainMetrics
from gifty_compute.maintain.step import Report, Step
from gifty_compute.queue.database import Database
from gifty_compute.queue.sql import QUERIES

__all__ = ["Maintainer"]

log = logging.getLogger(__name__)


class Maintainer:
    """`run_pass` does all steps once, in order; `start` does so every `period` seconds."""

    def __init__(
        self,
        database: Database,
        steps: Sequence[Step],
        *,
        period: float,
        clock: Clock,
        metrics: MaintainMetrics,
    ) -> None:
        self._db, self._steps, self._period = database, steps, period
        self._clock, self._metrics = clock, metrics
        self._stop = threading.Event()

    def run_pass(self) -> Report | None:
        """One pass, or None when another process is at it. Raises StoreUnavailable."""
        began = self._clock.monotonic()
        with self._db.connection() as connection:
            if not connection.execute(QUERIES["try_lock"]).scalar():
                return None
            try:
                counts: dict[str, int] = {}
                for step in self._steps:
                    counts |= step.run(connection)
            finally:
                connection.execute(QUERIES["unlock"])
        report = Report(counts)
        self._metrics.passed(report, self._clock.monotonic() - began, self._clock.now())
        return report

    def start(self) -> None:
        """Begins the loop in a thread of its own."""
        threading.Thread(target=self._loop, name="maintain", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(self._period):
            try:
                report = self.run_pass()
            except StoreUnavailable as error:
                log.warning("maintain: %s", error)
            except Exception:
                # The loop is what rescues everybody else; it must outlive a fault of its own, and say so.
                log.exception("maintain: a pass failed")
            else:
                if report:
                    log.info("maintain: %s", report)
