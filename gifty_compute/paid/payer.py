"""The payer: plans each batch that must be done by a time, and releases what has to be paid for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any
from uuid import UUID

from gifty_compute.clock import Clock, Deadline
from gifty_compute.errors import InvalidRequest, StoreUnavailable
from gifty_compute.logic.file import LowSection
from gifty_compute.logic.logic import Logic, Offer
from gifty_compute.paid.plan import Plan, Standing, make_plan
from gifty_compute.paid.prices import cheapest, expected_usd
from gifty_compute.paid.worker import PaidWorker, call_seconds
from gifty_compute.queue.purse import Purses
from gifty_compute.routing.call import Call
from gifty_compute.routing.router import Router

__all__ = ["Payer"]

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 5.0
# At once, in each facade process; and before the next look, so that the workers' progress is seen in between.
_IN_FLIGHT, _A_LOOK = 4, 32


class Payer:
    """Runs in every facade process. Two that plan at once release a little too much, never too much money."""

    def __init__(
        self,
        purses: Purses,
        worker: PaidWorker,
        router: Router,
        logic: Callable[[], Logic],
        clock: Clock,
    ) -> None:
        self._purses, self._worker, self._router = purses, worker, router
        self._logic, self._clock = logic, clock
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="paid")
        self._stop = threading.Event()

    def start(self) -> None:
        """Begins the loop in a thread of its own."""
        threading.Thread(target=self._loop, name="payer", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> int:
        """Plans every batch once and has done what was released; how many tasks that were."""
        logic, done = self._logic(), 0
        for batch_id, rows in groupby(self._purses.due(), key=lambda row: UUID(str(row["id"]))):
            planned = [(row, *self._planned(logic, row)) for row in rows]
            shown = [{"task_type": r["task_type"], "model": r["model"], **p.shown()} for r, p, _ in planned]
            self._purses.plan(batch_id, shown)
            for row, plan, offer in planned:
                if offer is not None and plan.release:
                    done += self._release(logic, batch_id, row, plan, offer)
        return done

    def _planned(self, logic: Logic, row: dict[str, Any]) -> tuple[Plan, Offer | None]:
        standing = Standing(
            now=row["now"],
            created_at=row["created_at"],
            finish_by=row["finish_by"],
            left=row["left"],
            in_paid_hands=row["in_paid_hands"],
            rate=row["rate"],
            cost_usd=float(row["cost_usd"]),
            max_cost_usd=float(row["max_cost"]),
        )
        policy = logic.file.low.get(row["task_type"], LowSection())
        offer, why_not = cheapest(policy, self._offers(logic, row))
        each = None if offer is None else expected_usd(offer, row["tokens"])
        return make_plan(standing, offer.provider if offer else None, each, why_not), offer

    def _offers(self, logic: Logic, row: dict[str, Any]) -> list[Offer]:
        """The providers that serve this very model, so none of another space, and that the client may use."""
        task_type = row["task_type"]
        try:
            known = logic.model(task_type, row["model"])
        except InvalidRequest:
            return []  # a model that logic.yaml no longer has
        call = Call(
            logic,
            task_type,
            known,
            {},
            Deadline.after(0, self._clock),
            never=logic.barred(row["client"]),
        )
        return [candidate.offer for candidate in self._router.candidates(call)]

    def _release(self, logic: Logic, batch_id: UUID, row: dict[str, Any], plan: Plan, offer: Offer) -> int:
        tasks = self._purses.some(batch_id, row["task_type"], row["model"], min(plan.release, _A_LOOK))
        go_on = threading.Event()
        go_on.set()

        def do(task: dict[str, Any]) -> bool:
            if not go_on.is_set() or self._stop.is_set():
                return False
            task_id = UUID(str(task["id"]))
            call = self._call(logic, offer, row, task)
            if not self._worker.do(call, offer, batch_id, task_id):
                go_on.clear()
            return go_on.is_set()

        return sum(self._pool.map(do, tasks))

    def _call(self, logic: Logic, offer: Offer, row: dict[str, Any], task: dict[str, Any]) -> Call:
        """The call for this task, to this provider alone."""
        model = logic.model(row["task_type"], row["model"])
        others = {other.provider for other in logic.offers(row["task_type"], model)} - {offer.provider}
        return Call(
            logic=logic,
            kind=row["task_type"],
            model=model,
            payload=task["payload"],
            deadline=Deadline.after(call_seconds(logic, offer, task["payload"]), self._clock),
            request_id=str(task["id"]),
            client=row["client"],
            never=frozenset(others),
        )

    def _loop(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            try:
                done = self.look()
                while done and not self._stop.is_set():
                    done = self.look()
            except StoreUnavailable as error:
                log.warning("payer: %s", error)
            except Exception:
                # Batches with a time to keep wait for it; it must outlive a fault of its own, and say so.
                log.exception("payer: a look failed")
