"""The project's programs as `up` runs them: which, with what command, and in which order they stop."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from gifty_compute.stack.options import Options
from gifty_compute.stack.readiness import Ready, alive, flower_sees, http_ok, logged_event

__all__ = ["Addresses", "Program", "StopStage", "migration", "programs"]

# Above `worker_soft_shutdown_timeout` (60 s): a batch on a slow machine ends by itself.
_DRAIN_GRACE = 75.0
_FACADE_GRACE = 20.0
_GRACE = 10.0
# Allocators keep memory for each thread, granian's own 55 kB of 200 that wait; without it nothing is slower.
_LEAN_THREADS = {"_RJEM_MALLOC_CONF": "narenas:1,tcache:false", "MALLOC_ARENA_MAX": "1"}
# A connection counts as long as it is open, whatever comes over it: at granian's own bound 1024 idle ones
# lock everybody out. And where it speaks HTTP/2, too, one that says nothing is never closed, else after 30 s.
_PATIENT_WITH_MANY = ("--http", "1", "--backlog", "4096", "--backpressure", "8192", "--no-ws")


class StopStage(IntEnum):
    """Who stops before whom: work is drained while all that it needs still runs."""

    WORKERS = 0
    BEAT = 1
    FLOWER = 2
    FACADE = 3
    SERVERS = 4


@dataclass(frozen=True)
class Addresses:
    """Where the facade and Flower listen: on this machine only."""

    port: int
    flower_port: int

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"


@dataclass(frozen=True)
class Program:
    """One program: its command, what it needs beyond the common environment, how it is ready."""

    name: str
    argv: tuple[str, ...]
    ready: Ready
    stop_stage: StopStage
    stop_grace: float = _GRACE
    env: Mapping[str, str] = field(default_factory=dict)
    # One that asks another too early would wait out its backoff, seconds of everybody's start.
    after: str | None = None


def programs(
    options: Options,
    addresses: Addresses,
    *,
    beat_schedule: Path,
    flower_auth: str,
    internal_token: str,
    facade_threads: str,
    poll_models: tuple[str, ...] = (),
) -> list[Program]:
    """All programs of one stack, in the order in which they are started."""
    flower = _flower(addresses)
    celery = [
        _celery_worker(number, flower_sees(f"celery-{number}", addresses.flower_url, flower_auth))
        for number in range(1, options.celery_workers + 1)
    ]
    polls = [
        _poll_worker(number, addresses.api_url, internal_token, poll_models)
        for number in range(1, options.poll_workers + 1)
    ]
    beat = [_beat(beat_schedule)] if celery else []
    return [_facade(addresses, facade_threads), flower, *celery, *beat, *polls]


def migration() -> tuple[str, ...]:
    """The command that brings the database's tables up to date."""
    return (sys.executable, "-m", "gifty_compute.commands", "migrate")


def _facade(addresses: Addresses, threads: str) -> Program:
    server = _module("api.server", "--interface", "wsgi", "--workers", "1", "--blocking-threads", threads)
    listen = ("--host", "127.0.0.1", "--port", str(addresses.port), *_PATIENT_WITH_MANY)
    return Program(
        "facade",
        (*server, *listen, "api.wsgi:app"),
        http_ok(f"{addresses.api_url}/readyz"),
        StopStage.FACADE,
        _FACADE_GRACE,
        _LEAN_THREADS,
    )


def _celery_worker(number: int, ready: Ready) -> Program:
    # Gossip and mingle let workers know of each other, which nothing here uses.
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "INFO")
    name = f"celery-{number}"
    pool = ("--pool", "threads", "--concurrency", "1", "--hostname", f"{name}@%h")
    argv = _celery("worker", *pool, *quiet)
    return Program(name, argv, ready, StopStage.WORKERS, _DRAIN_GRACE)


def _beat(schedule: Path) -> Program:
    argv = _celery("beat", "--schedule", str(schedule), "--loglevel", "INFO")
    return Program("beat", argv, alive, StopStage.BEAT)


def _flower(addresses: Addresses) -> Program:
    argv = _celery("flower", "--address=127.0.0.1", f"--port={addresses.flower_port}")
    ready = http_ok(f"{addresses.flower_url}/healthcheck")
    return Program("flower", argv, ready, StopStage.FLOWER)


def _poll_worker(number: int, api_url: str, token: str, models: tuple[str, ...]) -> Program:
    name = f"poll-{number}"
    of_models = [word for model in models for word in ("--model", model)]
    return Program(
        name,
        _module("workers.poll", "--api", api_url, "--worker-id", name, *of_models),
        logged_event("ready"),
        StopStage.WORKERS,
        _DRAIN_GRACE,
        {"GIFTY_WORKER_TOKEN": token},
        after="facade",
    )


def _celery(*arguments: str) -> tuple[str, ...]:
    return _module("celery", "-A", "workers", *arguments)


def _module(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)
