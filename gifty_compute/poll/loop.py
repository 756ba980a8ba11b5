"""PollLoop: claim ahead, do, report, until the worker is told to stop or its session ends."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from gifty_compute.clock import Deadline
from gifty_compute.errors import GiftyComputeError, Unauthorized
from gifty_compute.perform import Performer, Pipeline, TaskSource, Tools, Verdict
from gifty_compute.perform.pace import Pace
from gifty_compute.perform.spool import Spool
from gifty_compute.poll.pauses import Pauses
from gifty_compute.wire.task import Holder, Want

__all__ = ["PollLoop"]

log = logging.getLogger(__name__)

# An idle worker's question stays open so long; a stop is noticed when it is answered.
_LONG_POLL_SECONDS = 5.0
# What is kept of a declared session for the drain: the pass under way, its report, the release of the rest.
_DRAIN_SECONDS = 10.0
_DRAIN_SHARE = 0.2
# The last words of a session: what is not done by then goes back, and that takes a call.
_LAST_SECONDS = 2.0
# How often a busy worker says how it is getting on.
_LOG_SECONDS = 30.0


@dataclass
class PollLoop:
    """A worker's life between its start and its drain.

    `tools.stop` ends it, and so does `session`, the moment at which the machine goes away: some seconds
    before it nothing is begun any more, and at it nothing is held. What has begun is finished and reported,
    what has not is released.
    """

    source: TaskSource
    holder: Holder
    want: Want
    """What to ask for; its `limit` is the most in one claim."""
    performer: Performer
    tools: Tools
    session: Deadline | None = None
    spool: Spool | None = None
    pace: Pace = field(default_factory=Pace)
    ready: threading.Event = field(default_factory=threading.Event, init=False)
    """Set once the first claim was answered."""

    def __post_init__(self) -> None:
        self._pauses = Pauses(self.tools.rng)
        self.line = Pipeline(
            self.source,
            self.holder,
            self.performer,
            self.tools,
            pace=self.pace,
            spool=self.spool,
            beats_when_empty=True,
        )
        self._drain = min(_DRAIN_SECONDS, _DRAIN_SHARE * self.session.remaining) if self.session else 0.0
        self._logged, self._logged_at = Verdict(), self.tools.clock.monotonic()

    def run(self) -> Verdict:
        """Works until it is told to stop; says how all its tasks ended. Once only.

        Raises GiftyComputeError only when the very first claim is refused: a wrong token or address is the
        operator's to mend. Later the same refusal may be a rotation or a deployment, and is waited out.
        An interrupt is let through; what is in hand goes back.
        """
        began = self.tools.clock.monotonic()
        with self.line:
            self._work()
            self.tools.stop.set()
            total = self.line.finish(self._last_moment())
            self._log_work()
        log.info("drained", extra=_told(total, self.tools.clock.monotonic() - began))
        return total

    def _work(self) -> None:
        seen = Verdict()
        while not self.tools.stop.is_set() and self._left() != 0:
            self._log_work()
            if not self.line.in_hand:
                work, seen = self.line.verdict - seen, self.line.verdict
                if pause := self._pauses.after_work(work):
                    self.tools.stop.wait(pause)
                    continue
            limit = 0 if self.line.hand.told_to_drain else min(self.line.limit(self._left()), self.want.limit)
            if limit:
                self._claim(limit)
            else:
                self._rest()

    def _left(self) -> float | None:
        """Seconds for which work may still be begun; None where no end is declared."""
        return None if self.session is None else max(0.0, self.session.remaining - self._drain)

    def _claim(self, limit: int) -> None:
        is_idle, began = not self.line.in_hand, self.tools.clock.monotonic()
        patience = self._patience() if is_idle else 0.0
        want = self.want.model_copy(update={"limit": limit, "wait_seconds": patience})
        try:
            claimed = self.line.claim(want)
        except GiftyComputeError as error:
            if not self.ready.is_set() and _is_final(error):
                raise
            self._wait_out(error)
            return
        self._pauses.answered()
        self._be_ready()
        # A server that waits for nobody just now answers at once.
        has_waited = is_idle and self.tools.clock.monotonic() - began > patience / 2
        if not claimed and not has_waited:
            self._rest()

    def _patience(self) -> float:
        left = self._left()
        return _LONG_POLL_SECONDS if left is None else round(min(_LONG_POLL_SECONDS, left), 3)

    def _rest(self) -> None:
        """Until something in hand has ended; with nothing in hand, for a while that grows."""
        pause = self._pauses.after_nothing()
        if self.line.in_hand:
            self.line.wait(pause)
        else:
            self.tools.stop.wait(pause)

    def _wait_out(self, error: GiftyComputeError) -> None:
        pause = self._pauses.after_refusal(error)
        told = {"code": error.code, "reason": error.message, "wait_seconds": round(pause, 2)}
        log.warning("claim failed", extra=told)
        self.tools.stop.wait(pause)

    def _be_ready(self) -> None:
        if not self.ready.is_set():
            self.ready.set()
            log.info("ready", extra={"worker_id": self.holder.worker_id, "models": list(self.want.models)})

    def _log_work(self) -> None:
        """A line when nothing is in hand any more, and now and then before."""
        now, work = self.tools.clock.monotonic(), self.line.verdict - self._logged
        is_due = not self.line.in_hand or now - self._logged_at >= _LOG_SECONDS
        if work.claimed and is_due:
            rate = self.pace.rate
            more = {"in_hand": self.line.in_hand, "texts_per_second": rate and round(rate, 1)}
            log.info("worked", extra=_told(work, now - self._logged_at) | more)
            self._logged = self.line.verdict
        if work.claimed == 0 or is_due:
            self._logged_at = now

    def _last_moment(self) -> Deadline | None:
        if self.session is None:
            return None
        return Deadline(self.session.at - _LAST_SECONDS, self.session.clock)


def _is_final(error: GiftyComputeError) -> bool:
    return isinstance(error, Unauthorized) or not error.retryable


def _told(verdict: Verdict, seconds: float) -> dict[str, Any]:
    """What a line of the log says of some work: counts, and how long it took."""
    return {
        "done": verdict.done,
        "failed": verdict.failed,
        "lost": verdict.lost,
        "released": verdict.released,
        "seconds": round(seconds, 3),
    }
