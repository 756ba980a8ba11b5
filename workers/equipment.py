"""What a Celery worker works with: SQL inside the service's network, HTTP and a token outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from celery import Celery

from gifty_compute.clock import Clock, SystemClock
from gifty_compute.core import build
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.logic.watch import LogicWatch
from gifty_compute.maintain.maintainer import Maintainer
from gifty_compute.perform import TaskSource
from gifty_compute.perform.running import Running
from gifty_compute.poll.client import PollClient
from gifty_compute.queue.announce import Announcer
from gifty_compute.queue.presence import Pair
from gifty_compute.queue.source import SqlSource
from gifty_compute.settings import (
    BridgeSettings,
    read_bridge_settings,
    read_logic_settings,
    read_settings,
)
from gifty_compute.wire.task import Holder
from workers.presence import Say

__all__ = ["Equipment", "equip"]


@dataclass(frozen=True)
class Equipment:
    """All that a Celery worker needs; `maintainer` is None where it cannot reach the database."""

    source: TaskSource
    say: Say
    announcer: Announcer
    maintainer: Maintainer | None
    logic_watch: LogicWatch
    running: Running
    inference: Inference
    clock: Clock
    rng: Random


def equip(app: Celery, running: Running) -> Equipment:
    """By the environment of this process. Raises InvalidConfig; dials nothing yet."""
    bridge = read_bridge_settings()
    return _over_http(app, running, bridge) if bridge.is_given else _over_sql(app, running)


def _over_http(app: Celery, running: Running, bridge: BridgeSettings) -> Equipment:
    clock, settings = SystemClock(), read_logic_settings()
    watch = LogicWatch(settings.logic_config_path, settings.llm_overrides, clock=clock)
    running = _by(running, watch)
    place = (bridge.gifty_compute_url, bridge.gifty_worker_token.get_secret_value())
    return Equipment(
        source=PollClient(*place),
        say=_HeartbeatOfItself(*place),
        announcer=Announcer(app, clock),
        maintainer=None,
        logic_watch=watch,
        running=running,
        inference=Inference(EngineShelf(running.recipe), clock),
        clock=clock,
        rng=Random(),  # noqa: S311  # jitter and turns, not secrets
    )


def _over_sql(app: Celery, running: Running) -> Equipment:
    core = build(read_settings(), app)
    running = _by(running, core.logic_watch)
    return Equipment(
        source=SqlSource(core.leases, core.store),
        say=core.presence.say,
        announcer=core.announcer,
        maintainer=core.maintainer,
        logic_watch=core.logic_watch,
        running=running,
        inference=Inference(EngineShelf(running.recipe), core.clock),
        clock=core.clock,
        rng=core.rng,
    )


class _HeartbeatOfItself:
    """Reports a worker's presence over HTTP: a heartbeat without tasks, whose `info` names what it takes."""

    def __init__(self, url: str, token: str) -> None:
        self._serves: dict[str, list[str]] = {}
        self._client = PollClient(url, token, info=lambda: {"program": "celery", "serves": self._serves})

    def __call__(self, holder: Holder, pairs: Sequence[Pair]) -> None:
        serves: dict[str, list[str]] = {}
        for task_type, model in pairs:
            serves.setdefault(task_type, []).append(model)
        self._serves = serves
        self._client.extend(holder, [])


def _by(running: Running, watch: LogicWatch) -> Running:
    """The same by the logic in force: what is loaded later is run as logic.yaml says then."""
    return replace(running, logic=lambda: watch.current)
