"""What a benchmark says: where it ran, and a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from gifty_compute.clock import SystemClock

__all__ = ["say_place", "say_table"]


def say_place() -> None:
    """Prints the day and the machine; a load above the number of cores says that others were at work."""
    now: datetime = SystemClock().now().astimezone(UTC)
    load, _, _ = os.getloadavg()
    click.echo(
        f"{now:%Y-%m-%d}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, "
        f"load {load:.1f} before the first round"
    )


def say_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as Markdown has it."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    click.echo(f"\n{title}\n")
    for line in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo(f"| {' | '.join(cells)} |")
