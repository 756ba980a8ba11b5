"""PollWorker: the poll worker put together, for the command line and for notebooks."""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import socket
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from gifty_compute.backoff import Backoff
from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import InvalidConfig
from gifty_compute.perform import Tools, Verdict
from gifty_compute.perform.pace import Pace
from gifty_compute.perform.running import Running
from gifty_compute.perform.spool import Spool
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.duration import seconds_of
from gifty_compute.poll.loop import PollLoop
from gifty_compute.poll.machine import describe
from gifty_compute.poll.progress import Progress, is_watched
from gifty_compute.wire.task import Holder, Want

__all__ = ["DEFAULT_MODEL", "PollWorker", "WorkerOptions"]

log = logging.getLogger(__name__)

DEFAULT_MODEL = "multilingual-e5-small"
# A result is reported again and again for about as long as its lease lasts (expected 93 s of waiting).
_PATIENCE = Backoff(base=0.2, cap=20.0)
_TRIES = 16
# How long a process that exits waits for its worker to drain.
_EXIT_SECONDS = 30.0


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker's owner decides."""

    api: str
    token: str
    worker_id: str | None = None
    running: Running = Running((DEFAULT_MODEL,))  # noqa: RUF009  # frozen
    limit: int = 100
    """Tasks in one claim, at most."""
    deadline: str | None = None
    """When this machine goes away, counted from now: 11h30m."""
    spool: Path | None = None
    """Where results lie until they are answered for good."""
    share: int = 100
    """Per cent of the time that the model computes."""


class PollWorker:
    """Its engines are loaded when it runs. `stop` drains it."""

    def __init__(self, options: WorkerOptions, stop: threading.Event) -> None:
        """Raises InvalidConfig; dials nothing yet."""
        clock, self.pace = SystemClock(), Pace()
        running = options.running
        self._options, self._stop = options, stop
        engines = sorted({running.recipe(name).engine for name in running.engines})
        self._about = {**describe(running.engines), "engine": engines}
        self._inference = Inference(EngineShelf(running.recipe), clock, share=options.share / 100)
        client = PollClient(options.api, options.token.strip(), info=self._info)
        seconds = seconds_of(options.deadline) if options.deadline else None
        self._loop = PollLoop(
            source=client,
            holder=Holder(worker_id=_name(options.worker_id), session=uuid4().hex),
            want=Want(task_types=running.task_types, models=running.models, limit=options.limit),
            performer=running.performer(self._inference),
            tools=Tools(stop, Random(), _PATIENCE, _TRIES, clock),  # noqa: S311  # jitter
            session=Deadline.after(seconds, clock) if seconds else None,
            spool=Spool(options.spool) if options.spool else None,
            pace=self.pace,
        )
        self._over = threading.Event()

    def run(self) -> Verdict:
        """Until it is told to stop, or its session ends. Raises EngineError, and what PollLoop.run raises."""
        _warn_of_bare_http(self._options.api)
        atexit.register(self._drain_at_exit)
        try:
            # Now: a claimed task would wait for it.
            loaded = [self._inference.load(name) for name in self._options.running.engines]
            self._about["precision"] = [one.precision for one in loaded if one.precision]
            with Progress(self._loop, self._options.api) if is_watched() else nullcontext():
                return self._loop.run()
        finally:
            self._over.set()
            atexit.unregister(self._drain_at_exit)
            self._inference.close()

    def _drain_at_exit(self) -> None:
        """For a worker in a thread of a process that exits."""
        self._stop.set()
        self._over.wait(_EXIT_SECONDS)

    def _info(self) -> dict[str, Any]:
        rate = self.pace.rate
        return {**self._about, "texts_per_second": round(rate, 1)} if rate else self._about


def _name(worker_id: str | None) -> str:
    name = worker_id or f"{socket.gethostname()}-{os.getpid()}"
    if not (name.isprintable() and name.strip() and len(name) <= 200):
        raise InvalidConfig(f"--worker-id {name[:40]!r} must be 1 to 200 printable characters")
    return name


def _warn_of_bare_http(api: str) -> None:
    parts = urlsplit(api.strip())
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        log.warning("the token travels unencrypted; use https", extra={"host": parts.hostname})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")
