"""Reports: how tasks ended, told in bulk from a thread of its own, again and again until it is answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gifty_compute.errors import Conflict, GiftyComputeError, InvalidResult, Unavailable
from gifty_compute.perform.source import TaskSource
from gifty_compute.perform.spool import Spool
from gifty_compute.perform.tools import Tools
from gifty_compute.perform.verdict import Verdict
from gifty_compute.wire.task import Holder, Outcome

__all__ = ["Reports", "failure"]

log = logging.getLogger(__name__)

_MOST_IN_A_CALL = 100
# A pass of the model ends many tasks at once: whoever comes first waits that long for the others.
_LINGER_SECONDS = 0.02
# A worker that drains still owes its last results, but somebody waits for its end.
_LONGEST_PAUSE_WHILE_DRAINING = 1.0
_LONGEST_MESSAGE = 2000


def failure(task_id: object, attempt: int, error: BaseException) -> Outcome:
    """The outcome of a task that raised this. No store takes NUL or a lone surrogate, so it has none."""
    said = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
    message = said.replace("\x00", "?").encode(errors="replace").decode()
    return Outcome.model_validate(
        {"id": task_id, "attempt": attempt or None, "status": "failed", "error": message}
    )


@dataclass(eq=False)
class _Open:
    outcome: Outcome
    tries: int = 0


class Reports:
    """Outcomes that are still to be answered.

    A source that cannot be reached is nobody's failure: each outcome is told again within the worker's
    patience, and for as long as the worker lives where there is a spool. `told` hears once how each ended.
    """

    def __init__(
        self,
        source: TaskSource,
        holder: Holder,
        tools: Tools,
        told: Callable[[Outcome, Verdict], None],
        spool: Spool | None = None,
    ) -> None:
        self._source, self._holder, self._tools, self._told, self._spool = source, holder, tools, told, spool
        self._open: list[_Open] = []
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        """Tells what an earlier process left in the spool, once; from now on outcomes are reported."""
        found = [_Open(one) for one in self._spool.found()] if self._spool else []
        if found:
            log.info("%d outcomes of an earlier run are told first", len(found))
        while found and not self._open:
            self._tell(found[:_MOST_IN_A_CALL])
            del found[:_MOST_IN_A_CALL]
        with self._changed:
            self._open += found
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether somebody reports; a fault of ours ends the thread, and nobody may wait for it then."""
        return self._thread.is_alive()

    def add(self, outcome: Outcome) -> None:
        """Returns at once; the rest happens in the thread."""
        with self._changed:
            self._open.append(_Open(outcome))
            self._changed.notify_all()

    def close(self, within: float) -> None:
        """Ends the thread after the call that it is making, or leaves it behind after so many seconds."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join(within)

    def _run(self) -> None:
        while batch := self._next():
            self._tell([one for one in batch if self._is_kept(one)])

    def _next(self) -> list[_Open]:
        """What is to be told now; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._is_over)
            self._changed.wait_for(
                lambda: len(self._open) >= _MOST_IN_A_CALL or self._is_over, _LINGER_SECONDS
            )
            if self._is_over:
                return []
            batch = self._open[:_MOST_IN_A_CALL]
            del self._open[:_MOST_IN_A_CALL]
            return batch

    def _is_kept(self, one: _Open) -> bool:
        """Keeps the outcome on disk, where there is a spool. A result that is not JSON becomes a failure."""
        if self._spool is None or one.tries:
            return True
        try:
            self._spool.keep(one.outcome)
        except InvalidResult as error:
            self.add(failure(one.outcome.id, one.outcome.attempt or 0, error))
            return False
        except OSError as error:
            log.error("task %s: its outcome is not in the spool: %s", one.outcome.id, error.strerror)
        return True

    def _tell(self, batch: list[_Open]) -> None:
        if not batch:
            return
        again: list[_Open] = []
        asked: list[GiftyComputeError] = []
        for one, error in zip(batch, self._answers(batch), strict=True):
            if error is not None and self._is_repeated(one, error):
                again.append(one)
                asked.append(error)
            else:
                self._end(one.outcome, error)
        if again:
            self._put_back(again, asked[0])

    def _answers(self, batch: list[_Open]) -> Sequence[GiftyComputeError | None]:
        try:
            return self._source.report(self._holder, [one.outcome for one in batch])
        except GiftyComputeError as error:
            return [error] * len(batch)

    def _is_repeated(self, one: _Open, error: GiftyComputeError) -> bool:
        one.tries += 1
        endless = self._spool is not None and not self._tools.stop.is_set()
        return error.retryable and (endless or one.tries < self._tools.tries)

    def _put_back(self, again: list[_Open], error: GiftyComputeError) -> None:
        with self._changed:
            self._open[:0] = again
        pause = self._pause(error, max(one.tries for one in again))
        if pause >= 1:
            log.warning("%d outcomes wait %.1f s to be told: %s", len(again), pause, error)
        # A stop cuts the pause; after it pauses are short.
        if self._tools.stop.is_set():
            threading.Event().wait(pause)
        else:
            self._tools.stop.wait(pause)

    def _pause(self, error: GiftyComputeError, tries: int) -> float:
        """Seconds until the next try: what the source asked for and jitter on top, or backoff."""
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        pause = asked + self._tools.patience.delay(tries, self._tools.rng)
        return min(pause, _LONGEST_PAUSE_WHILE_DRAINING) if self._tools.stop.is_set() else pause

    def _end(self, outcome: Outcome, error: GiftyComputeError | None) -> None:
        if error is not None and error.retryable:
            where = "it stays in the spool" if self._spool else "its lease will run out"
            log.error("task %s: outcome not delivered, %s: %s", outcome.id, where, error)
            self._told(outcome, Verdict(lost=1))
            return
        is_failure = outcome.status == "failed"
        if error is not None and not is_failure and not isinstance(error, Conflict):
            self.add(failure(outcome.id, outcome.attempt or 0, error))
            return
        if self._spool:
            self._spool.forget(outcome.id)
        if error is not None:
            log.warning("task %s: %s not taken: %s", outcome.id, outcome.status, error)
            self._told(outcome, Verdict(lost=1))
        else:
            self._told(outcome, Verdict(failed=1) if is_failure else Verdict(done=1))
