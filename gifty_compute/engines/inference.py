"""Inference: the one place of a process where models are called, in one thread, for everybody who asks.

```
submit ─▶ job (rows) ─┐                              ┌─▶ the row's job; when all are there, its future
submit ─▶ job (rows) ─┼─▶ plan ─▶ pass ─▶ forward ───┤
submit ─▶ job (rows) ─┘      ▲                       └─▶ too large: half the budget; broken: halves, until the
                             └─ new jobs are planned in             bad row is alone with its job
```
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from gifty_compute.clock import Clock
from gifty_compute.engines.base import Engine, Job, Row
from gifty_compute.engines.budget import Budget
from gifty_compute.engines.forks import apart, in_each_child
from gifty_compute.engines.planner import plan
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.engines.warmup import warm_up
from gifty_compute.errors import EngineError, OutOfMemory, Unavailable

__all__ = ["Inference"]

log = logging.getLogger(__name__)

# What may wait here, in tokens: some minutes of a CPU, some seconds of a GPU.
_MOST_TOKENS = 2**20
# Rows that are planned together; beyond it planning costs more than it saves.
_WINDOW = 1024
# Between two passes, however slow they are: a process that ends waits for it.
_LONGEST_REST = 10.0
# The newest pass's weight in the measured pace.
_WEIGHT = 0.2


@dataclass(eq=False)
class _Order:
    """A job on its way: its outputs as far as they are there."""

    engine: Engine
    job: Job
    wanted: Callable[[], bool]
    future: Future[dict[str, Any]] = field(default_factory=Future)
    outputs: dict[int, Any] = field(default_factory=dict)
    begun: bool = False

    def begin(self) -> bool:
        """Whether it is in work, from now on or before; then it can no longer be cancelled from outside."""
        if not self.begun and not self.future.done():
            self.begun = self.future.set_running_or_notify_cancel()
        return self.begun

    def drop(self) -> None:
        """Nobody wants it: its future is cancelled, also if it has begun."""
        if not self.future.cancel() and not self.future.done():
            self.future.set_exception(CancelledError())

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done() or not self.wanted()


_Place = tuple[_Order, int]
"""One row of one order."""


class Inference:
    """Runs jobs of any number of callers; its thread begins with the first of them, so it may be made before
    a fork."""

    def __init__(
        self,
        shelf: EngineShelf,
        clock: Clock,
        *,
        most_tokens: int = _MOST_TOKENS,
        share: float = 1.0,
        pass_seconds: float | None = None,
    ) -> None:
        """`share` of the time is spent on computing; the rest is left to other programs of the machine.

        A pass is planned to last `pass_seconds` at most, by the pace of late: callers wait for it to end.
        """
        self._shelf, self._clock, self._most_tokens = shelf, clock, most_tokens
        self._pass_seconds = pass_seconds
        self._idle = 1 / share - 1
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        """With nothing to do. In a child its parent's orders are the parent's, and so is its thread."""
        self._changed = threading.Condition()
        self._orders: list[_Order] = []
        self._passes: list[list[_Place]] = []
        self._stale = False
        """Whether there is more to plan than was planned."""
        self._tokens = 0
        self._pace = 0.0
        self._budgets: dict[str, Budget] = {}
        self._row_tokens: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def tokens_per_second(self) -> float:
        """How fast passes were lately; 0 as long as there was none."""
        return self._pace

    @property
    def too_large(self) -> int:
        """How many passes were too large for the memory."""
        return sum(budget.shrunk for budget in self._budgets.values())

    def load(self, model: str) -> Engine:
        """The model's engine, loaded and warm; to be called before the first of its work.

        Raises EngineError.
        """
        engine = self._shelf.get(model)
        self._row_tokens[model] = apart(lambda: warm_up(engine, self._clock))
        return engine

    def submit(
        self,
        model: str,
        task_type: str,
        payload: dict[str, Any],
        wanted: Callable[[], bool] = lambda: True,
        *,
        patience: float | None = None,
    ) -> Future[dict[str, Any]]:
        """The raw result, when it is there; tokenising is the caller's own work.

        A job whose `wanted` says no is dropped before its next pass; its future can be cancelled until its
        first pass begins. Raises EngineError for a payload that this model cannot do, and Unavailable where
        too much waits already: more than fits in, or more than is done within `patience` seconds.
        """
        engine = self._shelf.get(model)
        job = engine.prepare(task_type, payload)
        order = _Order(engine, job, wanted)
        with self._changed:
            if self._closed:
                raise Unavailable("this process ends")
            self._refuse_too_much(job.tokens, patience)
            if not job.rows:
                _finish(order)
                return order.future
            self._tokens += job.tokens
            self._orders.append(order)
            self._stale = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
                self._thread.start()
            self._changed.notify()
        return order.future

    def close(self) -> None:
        """Ends after the pass that is under way; what waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _refuse_too_much(self, tokens: int, patience: float | None) -> None:
        if self._fits(tokens, patience):
            return
        # Orders that have ended are not computed.
        self._tokens = sum(order.job.tokens for order in self._orders if not order.over)
        if not self._fits(tokens, patience):
            wait = self._tokens / self._pace if self._pace else 0.0
            raise Unavailable("the model is busy", retry_after=max(1.0, wait))

    def _fits(self, tokens: int, patience: float | None) -> bool:
        """Whether there is room for so many more, and time; a lone caller always finds both."""
        if not self._tokens:
            return True
        full = self._tokens + tokens > self._most_tokens
        late = patience is not None and self._pace and (self._tokens + tokens) / self._pace > patience
        return not (full or late)

    def _run(self) -> None:
        try:
            while self._wait():
                self._make(self._next())
                self._forget_the_ended()
        finally:
            # Also if this thread breaks: nobody shall wait for it.
            with self._changed:
                self._closed = True
            for order in self._orders:
                order.drop()

    def _wait(self) -> bool:
        """Until there is something to do; False when all is over."""
        with self._changed:
            while not (self._orders or self._closed):
                self._changed.wait()
            return not self._closed

    def _next(self) -> list[_Place]:
        with self._changed:
            stale, self._stale = self._stale or not self._passes, False
            orders = list(self._orders)
        if stale:
            self._passes = self._planned(orders)
        return self._passes.pop(0) if self._passes else []

    def _planned(self, orders: Sequence[_Order]) -> list[list[_Place]]:
        """All passes for what waits longest for one engine; the one with the oldest row first."""
        engine = orders[0].engine
        places: list[_Place] = []
        for order in orders:
            if order.engine is engine and not order.over and len(places) < _WINDOW:
                places += [(order, row) for row in range(len(order.job.rows)) if row not in order.outputs]
        lengths = [order.job.rows[row].tokens for order, row in places]
        found = plan(
            lengths,
            pass_tokens=self._pass_tokens(engine),
            row_tokens=self._row_tokens.get(engine.model, engine.row_tokens),
            packed=engine.packed,
        )
        return [[places[position] for position in one] for one in sorted(found, key=min)]

    def _pass_tokens(self, engine: Engine) -> int:
        most = self._budget(engine).tokens
        if self._pass_seconds is None or not self._pace:
            return most
        return max(1, min(most, int(self._pace * self._pass_seconds)))

    def _make(self, places: list[_Place]) -> None:
        """One pass; of a broken one the halves, each for itself."""
        places = [place for place in places if not place[0].over and place[0].begin()]
        if not places:
            return
        engine, rows = places[0][0].engine, [order.job.rows[row] for order, row in places]
        began = self._clock.monotonic()
        try:
            outputs = engine.forward(rows)
            if len(outputs) != len(rows):
                raise EngineError(f"{engine.model} gave {len(outputs)} outputs for {len(rows)} rows")
        except OutOfMemory as error:
            self._budget(engine).shrink(_size(engine, rows))
            self._stale = True
            self._halve(places, error)
        except Exception as error:  # noqa: BLE001  # the boundary of foreign code: whatever it raises is the job's
            self._halve(places, error)
        else:
            self._budget(engine).grow()
            took = self._clock.monotonic() - began
            self._measure(rows, took * (1 + self._idle))
            for (order, row), output in zip(places, outputs, strict=True):
                order.outputs[row] = output
                if len(order.outputs) == len(order.job.rows):
                    _finish(order)
            if self._idle and not self._closed:
                self._clock.sleep(min(took * self._idle, _LONGEST_REST))

    def _halve(self, places: list[_Place], error: Exception) -> None:
        if len(places) == 1:
            why = error if isinstance(error, EngineError) else type(error).__name__
            log.warning("a pass of one row failed: %s", why)
            [(order, _)] = places
            if order.begin():
                order.future.set_exception(error)
            return
        middle = len(places) // 2
        self._make(places[:middle])
        self._make(places[middle:])

    def _forget_the_ended(self) -> None:
        for order in self._orders:
            if order.over:
                order.drop()
        with self._changed:
            self._orders = [order for order in self._orders if not order.future.done()]
            self._tokens = sum(order.job.tokens for order in self._orders)

    def _budget(self, engine: Engine) -> Budget:
        return self._budgets.setdefault(engine.model, Budget(engine.pass_tokens))

    def _measure(self, rows: Sequence[Row], seconds: float) -> None:
        if seconds > 0:
            pace = sum(row.tokens for row in rows) / seconds
            self._pace = pace if not self._pace else (1 - _WEIGHT) * self._pace + _WEIGHT * pace


def _finish(order: _Order) -> None:
    if not order.begin():
        return
    try:
        result = order.job.finish([order.outputs[row] for row in range(len(order.job.rows))])
    except Exception as error:  # noqa: BLE001  # the boundary of foreign code: whatever it raises is the job's
        order.future.set_exception(error)
    else:
        order.future.set_result(result)


def _size(engine: Engine, rows: Sequence[Row]) -> int:
    """In tokens, as the budget counts them."""
    lengths = [row.tokens for row in rows]
    return sum(lengths) if engine.packed else len(lengths) * max(lengths)
