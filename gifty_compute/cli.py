"""`gifty-compute`: the operator's commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gifty_compute.demo.demo import run_demo
from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.errors import GiftyComputeError
from gifty_compute.migrations import migrate as migrate_schema
from gifty_compute.queue.database import connect
from gifty_compute.stack.options import Options, default_data_dir
from gifty_compute.stack.up import up as run_up
from gifty_compute.version import VERSION

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands end with one sentence, not a traceback, when an error of ours stops them."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (GiftyComputeError, EmbeddedError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.strerror}: {error.filename or 'no file named'}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="gifty-compute")
def main() -> None:
    """One door to Gifty's compute."""


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
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        raise click.ClickException("DATABASE_URL is not set: it names the database to migrate")
    database = connect(dsn)
    try:
        migrate_schema(database.engine)
    finally:
        database.close()
    click.echo("migrated")


def _say(line: str) -> None:
    click.echo(line)


if __name__ == "__main__":
    main()
