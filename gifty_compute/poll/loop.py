"""PollLoop: claim, do, claim again, until the worker is told to stop."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Clock
from gifty_compute.errors import GiftyComputeError, Unauthorized, Unavailable
from gifty_compute.perform import Performer, TaskSource, Tools, Verdict, perform
from gifty_compute.wire.task import Holder, Task, Want

__all__ = ["PollLoop"]

log = logging.getLogger(__name__)

# Nothing to do: a new task waits two seconds at most.
_IDLE = Backoff(base=0.1, cap=2.0)
# No answer to a claim, or a machine on which every task fails: it must not race through the queue.
_TROUBLE = Backoff(base=0.5, cap=30.0)


@dataclass(frozen=True)
class PollLoop:
    """A worker's life between its start and its drain.

    `tools.stop` ends it: the task in hand is finished and reported, what was not begun is released.
    """

    source: TaskSource
    holder: Holder
    want: Want
    performer: Performer
    tools: Tools
    clock: Clock
    ready: threading.Event = field(default_factory=threading.Event, init=False)
    """Set once the first claim was answered."""

    def run(self) -> Verdict:
        """Works until it is told to stop; says how all its tasks ended.

        Raises GiftyComputeError only when the very first claim is refused: a wrong token or address is the
        operator's to mend. Later the same refusal may be a rotation or a deployment, and is waited out.
        """
        began, total, refused, barren = self.clock.monotonic(), Verdict(), 0, 0
        while not self.tools.stop.is_set():
            try:
                verdict = self._claim_and_do()
            except GiftyComputeError as error:
                if not self.ready.is_set() and _is_final(error):
                    raise
                refused += 1
                pause = self._pause_after_refusal(error, refused)
            else:
                total, refused = total + verdict, 0
                barren = 0 if verdict.done else barren + 1
                pause = self._pause_after(verdict, barren)
            self.tools.stop.wait(pause)
        log.info("drained", extra=_told(total, self.clock.monotonic() - began))
        return total

    def _claim_and_do(self) -> Verdict:
        began = self.clock.monotonic()
        verdict = perform(self.source, self.holder, self.want, self._do, self.tools)
        self._be_ready()
        if verdict.claimed:
            log.info("worked", extra=_told(verdict, self.clock.monotonic() - began))
        return verdict

    def _do(self, task: Task) -> dict[str, Any]:
        # A task in hand is a claim that was answered, long before `perform` returns.
        self._be_ready()
        return self.performer(task)

    def _be_ready(self) -> None:
        if not self.ready.is_set():
            self.ready.set()
            log.info("ready", extra={"worker_id": self.holder.worker_id, "models": list(self.want.models)})

    def _pause_after(self, verdict: Verdict, barren: int) -> float:
        """None after work; else between half and all of a delay that grows, so that it never spins."""
        if verdict.done:
            return 0.0
        ceiling = (_TROUBLE if verdict.failed else _IDLE).ceiling(barren)
        return ceiling * self.tools.rng.uniform(0.5, 1.0)

    def _pause_after_refusal(self, error: GiftyComputeError, refused: int) -> float:
        """What the server asked for, and jitter on top: workers told the same must not come back as one."""
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        pause = asked + _TROUBLE.delay(refused, self.tools.rng)
        log.warning(
            "claim failed",
            extra={"code": error.code, "reason": error.message, "wait_seconds": round(pause, 2)},
        )
        return pause


def _is_final(error: GiftyComputeError) -> bool:
    return isinstance(error, Unauthorized) or not error.retryable


def _told(verdict: Verdict, seconds: float) -> dict[str, float]:
    """What a line of the log says of some work: counts, and how long it took."""
    return {
        "done": verdict.done,
        "failed": verdict.failed,
        "lost": verdict.lost,
        "released": verdict.released,
        "seconds": round(seconds, 3),
    }
