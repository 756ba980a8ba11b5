"""`gifty-compute`: the operator's commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random

import click
from rich.table import Table

from gifty_compute.callbacks.commands import callbacks, plain
from gifty_compute.clock import Clock, SystemClock
from gifty_compute.demo.demo import run_demo
from gifty_compute.doctor import unasked, visit
from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import GiftyComputeError, ProviderError
from gifty_compute.high import HighRoad, build_high_road
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import read_logic
from gifty_compute.migrations import migrate as migrate_schema
from gifty_compute.operators.circuits import circuits
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.tokens import WorkerTokens
from gifty_compute.settings import read_logic_settings
from gifty_compute.spaces import record as record_space
from gifty_compute.stack.options import Options, default_data_dir
from gifty_compute.stack.up import up as run_up
from gifty_compute.version import VERSION
from gifty_compute.wire.body import parse
from gifty_compute.wire.token import MintRequest, Trust, WorkerToken

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands end with one sentence, not a traceback, when an error of ours stops them."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ProviderError as error:
            raise click.ClickException(error.for_operators) from error
        except (GiftyComputeError, EmbeddedError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.strerror}: {error.filename or 'no file named'}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="gifty-compute")
def main() -> None:
    """One door to Gifty's compute."""


main.add_command(callbacks)
main.add_command(circuits)


@main.command()
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where everything is kept."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one."
)
@click.option("--celery-workers", type=click.IntRange(0, 64), default=1, show_default=True)
@click.option("--poll-workers", type=click.IntRange(0, 64), default=1, show_default=True)
def up(data_dir: Path | None, port: int, celery_workers: int, poll_workers: int) -> None:
    """Run the whole service on this machine until Ctrl-C.

    PostgreSQL and Valkey are started, too, unless DATABASE_URL and REDIS_URL name others.
    """
    directory = data_dir or default_data_dir(os.environ)
    run_up(Options(directory, port, celery_workers, poll_workers), announce=_say)


@main.command()
@click.option("--keep", is_flag=True, help="Stay up afterwards, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Embed a catalogue of gifts by two kinds of workers, and ask it questions."""
    sys.exit(run_demo(keep=keep, announce=_say))


@main.command()
def migrate() -> None:
    """Bring the tables of DATABASE_URL up to date; safe to run twice, or twice at once."""
    with _database() as database:
        migrate_schema(database.engine)
    click.echo("migrated")


@main.command()
@click.option("--live", is_flag=True, help="Make one tiny real call to each configured provider.")
def doctor(live: bool) -> None:
    """Say which providers could be asked, and what answers the models that only `experiments` of logic.yaml
    names; with --live also how each provider answers.

    Exits 1 when one of them fails. Without any provider's key nothing is asked.
    """
    logic, high, clock = _high_road()
    try:
        for one in logic.experiment_ids:
            click.echo(str(one))
        for provider, variable in unasked(logic, high):
            click.echo(f"{provider}: not asked, {variable} is not set")
        if not live:
            return
        table = Table()
        for heading in ("provider", "key", "work", "model", "seconds", "cost, $", "result"):
            # A model's name that does not fit goes on in the next line: cut, it could not be looked up.
            table.add_column(heading, overflow="fold", no_wrap=heading not in ("model", "result"))
        failed = False
        for finding in visit(logic, high, clock):
            result = "ok" if finding.error is None else finding.error.for_operators
            cost = "unknown" if finding.cost_usd is None else f"{finding.cost_usd:.6f}"
            row = (finding.provider, finding.key, finding.kind, finding.model, f"{finding.seconds:.2f}")
            table.add_row(*row, cost, result)
            failed |= finding.error is not None
        if not table.row_count:
            click.echo("skipped: no provider's key is set")
            return
        plain().print(table)
        sys.exit(1 if failed else 0)
    finally:
        high.close()


@main.group()
def spaces() -> None:
    """Embedding spaces, and what they are known by."""


@spaces.command()
@click.argument("space")
@click.option("--provider", required=True, help="Whose vectors are trusted.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="[default: beside logic.yaml]"
)
def record(space: str, provider: str, output: Path | None) -> None:
    """Keep a provider's vectors for a few texts: others must match them before they may join SPACE."""
    logic, high, clock = _high_road()
    path = output or read_logic_settings().logic_config_path.parent / "spaces" / f"{space}.json"
    try:
        recorded = record_space(logic, high, clock, space=space, provider=provider, path=path)
    finally:
        high.close()
    click.echo(f"{path}: {len(recorded.texts)} vectors of {recorded.dim} numbers")
    click.echo(f"Now say in logic.yaml:  spaces: {{{space}: {{reference: spaces/{path.name}}}}}")


@main.group()
def tokens() -> None:
    """Workers' own tokens, in the database of DATABASE_URL."""


@tokens.command()
@click.argument("name")
@click.option("--task-type", "task_types", multiple=True, help="What it may claim.  [default: all]")
@click.option(
    "--trust",
    type=click.Choice(["trusted", "untrusted"]),
    default="trusted",
    show_default=True,
    help="untrusted: a stranger's machine, whose results are checked.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="Until it expires.  [default: never]")
@click.option(
    "--score-scale",
    type=click.Choice(["0-1", "0-10"]),
    help="What the older notebook that gets it scores on.  [default: score.notebook_scale]",
)
def create(
    name: str, task_types: tuple[str, ...], trust: Trust, days: int | None, score_scale: str | None
) -> None:
    """Make a token for one worker, by a NAME that operators see, and print it: it is shown this once."""
    settings = read_logic_settings()
    logic = read_logic(settings.logic_config_path, settings.llm_overrides)
    for task_type in task_types:
        logic.require_type(task_type)
    request = parse(
        MintRequest,
        {
            "name": name,
            "task_types": [*task_types],
            "trust": trust,
            "expires_in_days": days,
            "score_scale": score_scale,
        },
    )
    with _database() as database:
        click.echo(WorkerTokens(database).mint(request, created_by="cli").token)


@tokens.command("list")
def list_tokens() -> None:
    """Show all tokens, newest first, and what became of them."""
    with _database() as database:
        found = WorkerTokens(database).list()
    table = Table("name", "id", "task types", "trust", "created by", "expires", "state")
    for token in found:
        types, expires = ", ".join(token.task_types) or "all", _day(token.expires_at)
        table.add_row(token.name, str(token.id), types, token.trust, token.created_by, expires, _state(token))
    plain().print(table)


@tokens.command()
@click.argument("token")
def revoke(token: str) -> None:
    """Refuse TOKEN, a name or an id, from the next request on."""
    with _database() as database:
        known = WorkerTokens(database)
        for one in known.list():
            if str(one.id) == token or (one.name == token and one.revoked_at is None):
                click.echo(
                    f"{one.name} is revoked since {known.revoke(one.id).revoked_at:%Y-%m-%d %H:%M} UTC"
                )
                return
    raise click.ClickException(f"there is no worker token {token!r}; `gifty-compute tokens list` shows all")


def _state(token: WorkerToken) -> str:
    if token.revoked_at is not None:
        return f"revoked {_day(token.revoked_at)}"
    return f"quarantined {_day(token.quarantined_at)}" if token.quarantined_at is not None else "valid"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment is not None else "never"


@contextmanager
def _database() -> Iterator[Database]:
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        raise click.ClickException("DATABASE_URL is not set: it names the database")
    database = connect(dsn)
    try:
        yield database
    finally:
        database.close()


def _high_road() -> tuple[Logic, HighRoad, Clock]:
    """The high road of this machine's environment, without a database or a Redis that anybody waits for."""
    clock, settings = SystemClock(), read_logic_settings()
    logic = read_logic(settings.logic_config_path, settings.llm_overrides)
    redis_url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
    inference = Inference(EngineShelf(), clock)
    return logic, build_high_road(os.environ, redis_url, inference, clock, Random()), clock  # noqa: S311


def _say(line: str) -> None:
    click.echo(line)


if __name__ == "__main__":
    main()
