"""The worker that pays: claims what a plan releases, asks the one provider, and keeps within max_cost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from gifty_compute.errors import GiftyComputeError, InvalidRequest, StoreUnavailable, Unavailable
from gifty_compute.logic.logic import Logic, Offer
from gifty_compute.logic.timeouts import timeouts_of
from gifty_compute.paid.prices import bound_usd
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.purse import PAID_HANDS, Purses
from gifty_compute.routing.call import Call
from gifty_compute.routing.clients import ClientLimits
from gifty_compute.routing.router import Router
from gifty_compute.wire.task import Held, Holder, Task, Want

__all__ = ["PaidWorker", "call_seconds"]

log = logging.getLogger(__name__)

# No caller waits: a call has this time at least, and as much as its work needs.
_LEAST_CALL_SECONDS = 60.0
# A lease that ends so long after its call needs no heartbeat.
_SPARE_SECONDS = 60.0


def call_seconds(logic: Logic, offer: Offer, payload: dict[str, Any]) -> float:
    """How long the provider may take: an answer that is given up is paid all the same."""
    return max(_LEAST_CALL_SECONDS, timeouts_of(logic.section(offer.ask_as), payload, None).total)


class PaidWorker:
    """Does one task at a time; may be shared by threads."""

    def __init__(self, leases: LeaseStore, purses: Purses, router: Router, clients: ClientLimits) -> None:
        self._leases, self._purses, self._router, self._clients = leases, purses, router, clients
        self._session = uuid4().hex

    def do(self, call: Call, offer: Offer, batch_id: UUID, task_id: UUID) -> bool:
        """Does the task that `call` is of. Whether the provider may go on being asked: False when money or
        provider is not there, or the batch's client has no dollars or tokens left.

        The money is set aside before the claim. What it cost is known when the answer is there; where it is
        not known, or no answer came, all that was set aside counts as spent.
        """
        try:
            leave = self._clients.admit(call)
        except Unavailable as refused:
            log.info("batch %s: no provider is paid for now: %s", batch_id, refused.message)
            return False
        try:
            return self._do_admitted(call, offer, batch_id, task_id)
        finally:
            leave()

    def _do_admitted(self, call: Call, offer: Offer, batch_id: UUID, task_id: UUID) -> bool:
        bound = bound_usd(offer, call.kind, call.payload)
        if not self._purses.set_aside(batch_id, bound):
            return False
        holder = Holder(worker_id=f"{offer.provider}@paid", session=self._session, credential=PAID_HANDS)
        lease = call.deadline.remaining + _SPARE_SECONDS
        want = Want(ids=(task_id,), limit=1, claim_id=uuid4(), lease_seconds=lease)
        claimed = self._leases.claim(holder, want).tasks
        if not claimed:
            # A worker was quicker, which costs nothing.
            self._purses.settle(batch_id, bound, 0.0)
            return True
        return self._ask(call, offer, holder, claimed[0], batch_id, bound)

    def _ask(
        self, call: Call, offer: Offer, holder: Holder, task: Task, batch_id: UUID, bound: float
    ) -> bool:
        try:
            answer = self._router.run(call)
        except InvalidRequest as refused:
            self._purses.settle(batch_id, bound, bound)
            why = f"{refused.code}: {refused.message}"
            self._quietly(lambda: self._leases.fail(holder, task, why))
            return True
        except GiftyComputeError as error:
            # The provider's fault counts against no task: a worker may do it, or the provider later.
            log.warning(
                "task %s: %s was not done by %s: %s", task.id, task.task_type, offer.provider, error.code
            )
            self._purses.settle(batch_id, bound, bound)
            self._quietly(lambda: self._leases.release(holder, [Held(id=task.id, attempt=task.attempt)]))
            return False
        cost = 0.0 if answer.cached else answer.cost_usd
        self._purses.settle(batch_id, bound, bound if cost is None else cost)
        self._quietly(lambda: self._leases.complete(holder, task, answer.result))
        return True

    @staticmethod
    def _quietly(report: Callable[[], object]) -> None:
        """The lease runs out where the report does not get through; a conflict means that it has ended."""
        try:
            report()
        except StoreUnavailable:
            raise
        except GiftyComputeError as error:
            log.warning("paid work was not taken: %s", error.code)
