"""`gifty-worker`: the poll worker's command line."""

from __future__ import annotations

import _thread
import ipaddress
import logging
import os
import signal
import socket
import threading
from concurrent.futures import Future
from random import Random
from types import FrameType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import click

from gifty_compute.backoff import Backoff
from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import GiftyComputeError, InvalidConfig, Unauthorized
from gifty_compute.logging import configure_logging
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.perform import Performer, Tools, Wanted
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.loop import PollLoop
from gifty_compute.poll.machine import describe
from gifty_compute.version import VERSION
from gifty_compute.wire.kinds import KINDS
from gifty_compute.wire.task import Holder, Task, Want

__all__ = ["engine_performer", "main"]

log = logging.getLogger(__name__)

# A result is reported again and again for about as long as its lease lasts (expected 93 s of waiting).
_PATIENCE = Backoff(base=0.2, cap=20.0)
_TRIES = 16


@click.command()
@click.option(
    "--api", required=True, envvar="GIFTY_COMPUTE_URL", show_envvar=True, help="Address of the facade."
)
@click.option(
    "--token",
    required=True,
    envvar="GIFTY_WORKER_TOKEN",
    show_envvar=True,
    help="Better in the environment than here, where every user of the machine can read it.",
)
@click.option("--worker-id", help="Name of this worker, up to 200 characters.  [default: <host>-<pid>]")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=["multilingual-e5-small"],
    show_default=True,
    help="Takes tasks of this model; may be given several times.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Tasks in one claim, at most.",
)
@click.version_option(VERSION, prog_name="gifty-worker")
def main(api: str, token: str, worker_id: str | None, models: tuple[str, ...], limit: int) -> None:
    """Does Gifty's tasks on this machine, claimed over HTTP; needs neither PostgreSQL nor Redis.

    SIGTERM or Ctrl-C drains: the task in hand is finished, the others go back, exit 0.
    A second Ctrl-C stops at once.
    """
    try:
        client = PollClient(api, token.strip(), info=describe(models))
        _refuse_unknown(models)
    except InvalidConfig as error:
        raise click.UsageError(error.message) from error
    holder = Holder(worker_id=_name(worker_id), session=uuid4().hex)
    clock, stop = SystemClock(), threading.Event()
    inference = Inference(EngineShelf(), clock)
    configure_logging()
    _drain_on_signals(stop)
    _warn_of_bare_http(api)
    loop = PollLoop(
        source=client,
        holder=holder,
        want=Want(task_types=tuple(KINDS), models=models, limit=limit),
        performer=engine_performer(inference),
        tools=Tools(stop=stop, rng=Random(), patience=_PATIENCE, tries=_TRIES),  # noqa: S311  # jitter
    )
    try:
        for model in models:
            inference.load(model)  # Now: a claimed task would wait for it.
        loop.run()
    except Unauthorized as error:
        message = f"{api} refuses this token; GIFTY_WORKER_TOKEN must hold one of its worker tokens"
        raise click.ClickException(message) from error
    except GiftyComputeError as error:
        raise click.ClickException(error.message) from error


def engine_performer(inference: Inference) -> Performer:
    """Does each task by the engine of its own model.

    The performer raises InvalidConfig for a model that this version does not know.
    """

    def begin(task: Task, wanted: Wanted) -> Future[dict[str, Any]]:
        return inference.submit(str(task.model), task.task_type, task.payload, wanted)

    return begin


def _refuse_unknown(models: tuple[str, ...]) -> None:
    """Raises InvalidConfig for a model that is unknown or has no engine here."""
    for model in models:
        engine = DEFAULT_LOGIC.engine_of(model)
        if not EngineShelf.built(engine):
            raise InvalidConfig(f"model {model!r} needs the engine {engine!r}, which is not in this version")


def _name(worker_id: str | None) -> str:
    name = worker_id or f"{socket.gethostname()}-{os.getpid()}"
    if not (name.isprintable() and name.strip() and len(name) <= 200):
        raise click.UsageError(f"--worker-id {name[:40]!r} must be 1 to 200 printable characters")
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


def _drain_on_signals(stop: threading.Event) -> None:
    def drain() -> None:
        stop.set()
        log.info("draining")

    def on_signal(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # In another thread: both calls take locks that this one may be holding just now, in `stop.wait` say.
        _thread.start_new_thread(drain, ())

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
