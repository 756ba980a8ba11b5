"""The core: the one place that chooses which concrete thing is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from celery import Celery
from prometheus_client import CollectorRegistry

from gifty_compute.callbacks.build import Callbacks, build_callbacks
from gifty_compute.clock import Clock, SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.fleet.fleet import Fleet
from gifty_compute.fleet.herald import SILENCE_SECONDS, Herald
from gifty_compute.fleet.roster import Roster
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.watch import LogicWatch
from gifty_compute.maintain.announcing import Announcing
from gifty_compute.maintain.batches import Batches
from gifty_compute.maintain.judging import Judging
from gifty_compute.maintain.leases import Leases
from gifty_compute.maintain.maintainer import Maintainer
from gifty_compute.maintain.metrics import MaintainMetrics
from gifty_compute.maintain.placing import Placing
from gifty_compute.maintain.retention import Retention
from gifty_compute.maintain.sampling import Sampling
from gifty_compute.maintain.unleased import Unleased
from gifty_compute.paid.payer import Payer
from gifty_compute.paid.worker import PaidWorker
from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.batches import BatchStore
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.depth import QueueDepth
from gifty_compute.queue.held import HeldTasks
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.outbox import Outbox
from gifty_compute.queue.presence import Presence
from gifty_compute.queue.purse import Purses
from gifty_compute.queue.results import BatchResults
from gifty_compute.queue.samples import QueueSamples
from gifty_compute.queue.sight import Sights
from gifty_compute.queue.spending import SpendingTable
from gifty_compute.queue.tasks import TaskStore
from gifty_compute.queue.tokens import WorkerTokens
from gifty_compute.queue.trust import Trust
from gifty_compute.queue.waits import Waits
from gifty_compute.settings import Settings

__all__ = ["Core", "build"]

# The longest pass of the local model: all callers of a facade wait for the pass that runs.
_PASS_SECONDS = 0.25


@dataclass(frozen=True)
class Core:
    """All parts of a process, wired together."""

    settings: Settings
    logic_watch: LogicWatch
    clock: Clock
    rng: Random
    database: Database
    sights: Sights
    store: TaskStore
    leases: LeaseStore
    held: HeldTasks
    batches: BatchStore
    results: BatchResults
    depth: QueueDepth
    announcer: Announcer
    tokens: WorkerTokens
    waits: Waits
    callbacks: Callbacks
    payer: Payer
    trust: Trust
    maintainer: Maintainer
    presence: Presence
    samples: QueueSamples
    fleet: Fleet
    high: HighRoad
    inference: Inference

    @property
    def logic(self) -> Logic:
        """The logic in force; take it once for all of one piece of work."""
        return self.logic_watch.current

    def start(self) -> None:
        """Begins what a process does on its own: it keeps its logic fresh."""
        self.logic_watch.start()

    def close(self) -> None:
        self.payer.stop()
        self.presence.stop()
        self.fleet.stop()
        self.high.close()
        self.inference.close()
        self.logic_watch.stop()
        self.maintainer.stop()
        self.callbacks.close()
        self.database.close()


def build(
    settings: Settings,
    celery: Celery,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    rng: Random | None = None,
) -> Core:
    """The parts for these settings; dials nothing yet. Raises InvalidConfig for a bad logic.yaml.

    `celery` is the app through which work is announced; its settings are celeryconfig.py's. `environ` holds
    the keys and addresses of providers; without it only the local one can be asked.
    """
    clock, rng = clock or SystemClock(), rng or Random()  # noqa: S311  # jitter and turns, not secrets
    logic = LogicWatch(settings.logic_config_path, settings.llm_overrides, clock=clock)
    database = connect(
        settings.database_url.get_secret_value(),
        pool_size=settings.db_pool_size,
        most_waiting=settings.facade_threads // 4,
    )
    first_client = settings.api_tokens[0][0] if settings.api_tokens else ""
    sights = Sights(lambda: logic.current, first_client)
    store = TaskStore(database, lambda: logic.current)
    leases = LeaseStore(database, lambda: logic.current, rng)
    announcer = Announcer(celery, clock)
    shelf = EngineShelf(lambda model: logic.current.recipe(model))
    inference = Inference(shelf, clock, pass_seconds=_PASS_SECONDS)
    cache = settings.cache_redis_url
    high = build_high_road(
        environ or {},
        settings.redis_url.get_secret_value(),
        inference,
        clock,
        rng,
        cache_url=cache.get_secret_value() if cache else None,
        spending_store=SpendingTable(database),
    )
    callbacks = build_callbacks(
        [secret.get_secret_value() for secret in settings.callback_secret],
        Outbox(database, rng),
        lambda batch_id: batches.stored(batch_id).model_dump(),
        lambda: logic.current,
        clock,
        high.registry,
    )
    batches = BatchStore(database, lambda: logic.current, clock, callbacks.receivers.admit)
    purses = Purses(database)
    steps = (
        Leases(database),
        Unleased(database, lambda: logic.current),
        Placing(database, lambda: logic.current, lambda: sights.owner_of_sql_rows),
        Judging(database, leases),
        Batches(database, clock),
        Announcing(database, announcer),
        Retention(database, lambda: logic.current.file.retention, clock),
        Sampling(database, clock),
    )
    return Core(
        settings=settings,
        logic_watch=logic,
        clock=clock,
        rng=rng,
        database=database,
        sights=sights,
        store=store,
        leases=leases,
        held=HeldTasks(database),
        batches=batches,
        results=BatchResults(database),
        depth=QueueDepth(database, lambda: logic.current, clock),
        announcer=announcer,
        tokens=WorkerTokens(database),
        waits=Waits(store, leases),
        callbacks=callbacks,
        trust=Trust(database, store, leases, lambda: logic.current, clock, rng),
        payer=Payer(
            purses,
            PaidWorker(leases, purses, high.router, high.clients),
            high.router,
            lambda: logic.current,
            clock,
        ),
        maintainer=Maintainer(
            database,
            steps,
            period=settings.maintain_period_seconds,
            clock=clock,
            metrics=MaintainMetrics(high.registry),
        ),
        presence=Presence(database, leases.offered, clock),
        samples=QueueSamples(database, clock),
        fleet=_fleet(celery, clock, high.registry),
        high=high,
        inference=inference,
    )


def _fleet(celery: Celery, clock: Clock, registry: CollectorRegistry) -> Fleet:
    roster = Roster(SILENCE_SECONDS)
    return Fleet(roster, Herald(celery, roster, clock, SILENCE_SECONDS, registry), clock)
