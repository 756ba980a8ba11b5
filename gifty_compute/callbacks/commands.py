"""`gifty-compute callbacks`: what could not be delivered, and sending it again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from random import Random
from typing import get_args
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table

from gifty_compute.callbacks.receivers import masked
from gifty_compute.queue.database import connect
from gifty_compute.queue.outbox import Outbox, State

__all__ = ["callbacks", "plain"]

_WITHOUT_A_TERMINAL = 10_000


def plain() -> Console:
    """Prints what it is given: what callers and providers say is no markup, whatever brackets it has.

    In a pipe or a log, which have no width, a row of a table is one line, unless COLUMNS says otherwise.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _WITHOUT_A_TERMINAL
    return console


@click.group()
def callbacks() -> None:
    """Callbacks of DATABASE_URL: what waits, what was given up, and sending it again."""


@callbacks.command(name="list")
@click.option("--state", type=click.Choice(get_args(State)), default="dead", show_default=True)
@click.option("--task", type=click.UUID, help="Those of one task, in whatever state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def list_(state: State, task: UUID | None, limit: int) -> None:
    """Show the newest callbacks of a state; queries of their URLs are masked."""
    table = Table("id", "receiver", "tries", "created", "next try", "dead since", "error")
    with _outbox() as outbox:
        found = outbox.page(state="any" if task else state, limit=limit, task_id=task)
    for one in found:
        times = [_time(one.created_at), _time(one.due_at), _time(one.dead_at)]
        table.add_row(one.id, masked(one.url), str(one.tries), *times, one.error or "")
    plain().print(table if found else "none")


@callbacks.command()
@click.argument("ids", nargs=-1)
@click.option("--all-dead", is_flag=True, help="Every one that was given up.")
@click.option("--receiver", help="With --all-dead: only those for this host, or host:port.")
def resend(ids: tuple[str, ...], all_dead: bool, receiver: str | None) -> None:
    """Make callbacks due at once, whatever became of them, with a day of tries before them."""
    if bool(ids) == all_dead:
        raise click.UsageError("name callbacks by their ids, or all of them with --all-dead")
    if receiver and not all_dead:
        raise click.UsageError("--receiver goes with --all-dead")
    with _outbox() as outbox:
        if all_dead:
            click.echo(f"{outbox.resend_dead(receiver)} are due")
        for one in ids:
            click.echo(f"{outbox.resend(one).id} is due")


@contextmanager
def _outbox() -> Iterator[Outbox]:
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        raise click.ClickException("DATABASE_URL is not set: it names the database that holds the callbacks")
    database = connect(dsn, pool_size=1)
    try:
        yield Outbox(database, Random())  # noqa: S311 - jitter, not secrets
    finally:
        database.close()


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
