"""The high road, wired together: the router with its providers, stages and guards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import redis
from prometheus_client import CollectorRegistry
from redis.backoff import NoBackoff
from redis.retry import Retry

from gifty_compute.clock import Clock
from gifty_compute.engines.inference import Inference
from gifty_compute.logic.logic import Logic
from gifty_compute.providers.access import Access
from gifty_compute.providers.keys import Keys
from gifty_compute.providers.registry import build_providers
from gifty_compute.routing.bookkeeper import Bookkeeper
from gifty_compute.routing.breaker import Breakers
from gifty_compute.routing.budget import Budgets
from gifty_compute.routing.cache import Cache
from gifty_compute.routing.canary import Canaries
from gifty_compute.routing.clients import ClientLimits
from gifty_compute.routing.hedge import Hedge
from gifty_compute.routing.latency import Latencies
from gifty_compute.routing.limits import Limits
from gifty_compute.routing.metrics import AttemptMetrics, CostMetrics
from gifty_compute.routing.microbatch import Microbatch
from gifty_compute.routing.order import Ordering
from gifty_compute.routing.router import Router
from gifty_compute.routing.singleflight import Singleflight
from gifty_compute.routing.spending import Spending, SpendingStore
from gifty_compute.shared.counters import RedisCounters
from gifty_compute.shared.marks import RedisMarks
from gifty_compute.shared.sync import Sync
from gifty_compute.shared.values import RedisValues
from gifty_compute.transport import build_transport
from gifty_compute.transport.base import Transport

__all__ = ["HighRoad", "build_high_road"]

# High priority never waits for Redis longer than this; without it each process goes by what it knows itself.
_REDIS_SECONDS = 0.1


@dataclass(frozen=True)
class HighRoad:
    """The router, and what operators want to see of it."""

    router: Router
    access: Access
    keys: Keys
    breakers: Breakers
    budgets: Budgets
    clients: ClientLimits
    canaries: Canaries
    transport: Transport
    registry: CollectorRegistry
    counters: RedisCounters
    sync: Sync
    bookkeeper: Bookkeeper | None
    """None where the spending is of this process alone."""

    def start(self, logic: Callable[[], Logic]) -> None:
        """Begins what goes on beside the requests: canaries, and the exchange with other processes."""
        self.keys.start()
        self.sync.start()
        if self.bookkeeper is not None:
            self.bookkeeper.start()
        self.canaries.start(logic, self.router)

    def close(self) -> None:
        self.canaries.stop()
        self.sync.stop()
        if self.bookkeeper is not None:
            self.bookkeeper.stop()
        self.keys.stop()
        self.transport.close()


def build_high_road(
    environ: Mapping[str, str],
    redis_url: str,
    inference: Inference,
    clock: Clock,
    rng: Random,
    *,
    cache_url: str | None = None,
    transport: Transport | None = None,
    spending_store: SpendingStore | None = None,
) -> HighRoad:
    """The parts, each of which dials only when it is used. Raises InvalidConfig for a bad file of keys.

    `environ` holds the providers' keys, addresses and proxies; PROVIDER_KEYS_FILE in it names a file whose
    entries win over it; `cache_url` is a Redis for the cache alone. Without a `spending_store`
    budgets count what this process spends.

    Stages and guards are looked at in this order; each can be taken out without a change elsewhere.
    """
    client = _redis(redis_url)
    cached = RedisValues(_redis(cache_url) if cache_url else client, clock)
    marks, counters = RedisMarks(client, clock), RedisCounters(client, clock)
    spending = Spending(clock, is_shared=spending_store is not None)
    breakers, budgets, canaries = Breakers(clock, marks), Budgets(clock, spending), Canaries(clock)
    limits, clients = Limits(clock, counters), ClientLimits(clock, counters, spending)
    latencies, registry = Latencies(clock), CollectorRegistry()
    transport = transport or build_transport()
    named = environ.get("PROVIDER_KEYS_FILE")
    keys = Keys(environ, Path(named) if named else None)
    access = Access(keys)
    router = Router(
        build_providers(transport, inference),
        access,
        ordering=Ordering(latencies.seconds),
        rng=rng,
        stages=(Cache(cached), Singleflight(), Microbatch(), Hedge()),
        guards=(canaries, budgets, limits, breakers),
        observers=(latencies, AttemptMetrics(registry)),
        accounts=(spending, limits, clients, CostMetrics(registry)),
    )
    return HighRoad(
        router=router,
        access=access,
        keys=keys,
        breakers=breakers,
        budgets=budgets,
        clients=clients,
        canaries=canaries,
        transport=transport,
        registry=registry,
        counters=counters,
        sync=Sync((marks, counters)),
        bookkeeper=Bookkeeper(spending, spending_store, clock) if spending_store is not None else None,
    )


def _redis(url: str) -> redis.Redis:
    """Asked once: a retry is time that a caller does not have, and what is kept there can be done without."""
    return redis.Redis.from_url(
        url,
        socket_timeout=_REDIS_SECONDS,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), retries=0),
    )
