"""The queue beside the bare driver, Celery and its peers, all in one run on one server.

    python -m benchmarks.queue --peers VENV

Each round runs each thing in turn, so that a busy neighbour hurts all alike. Printed are medians over the
rounds, and ratios, each with its target in brackets.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.queue import celery_round, claim, submit, vectors, work
from benchmarks.queue.stand import stand

_BYTES_A_ROW = 1000
PARTS = ("submit", "claim", "work", "celery", "vectors", "depth")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option(
    "--peers",
    type=click.Path(exists=True, path_type=Path),
    help="A venv with pgqueuer, asyncpg and procrastinate.",
)
@click.option("--rounds", default=9, show_default=True)
@click.option("--depth", default=1_000_000, show_default=True, help="Pending rows of the long queue.")
@click.option(
    "--folder",
    type=click.Path(exists=True, path_type=Path),
    help="Where the servers keep their data while it runs: 10 million rows take up to 10 GB.",
)
def main(parts: tuple[str, ...], peers: Path | None, rounds: int, depth: int, folder: Path | None) -> None:
    """Measures these parts, or all."""
    with tempfile.TemporaryDirectory(prefix="gifty-bench-", dir=folder) as name, ExitStack() as stack:
        place = Path(name)
        if "depth" in (parts or PARTS):
            _refuse_too_deep(place, depth)
        bench = stack.enter_context(stand(place / "stand"))
        for part in parts or PARTS:
            click.echo(part)
            match part:
                case "submit":
                    submit.measure(bench, rounds)
                case "claim":
                    claim.measure(bench, rounds)
                case "work":
                    work.measure(bench, rounds, place / "facade-work", peers)
                case "celery":
                    celery_round.measure(bench, rounds)
                case "vectors":
                    vectors.measure(bench, rounds, place / "facade-vectors")
                case "depth":
                    with bench.beside("short") as short, bench.beside("long") as long:
                        claim.measure_depth(short, long, rounds, depth)


def _refuse_too_deep(folder: Path, depth: int) -> None:
    free, needed = shutil.disk_usage(folder).free, depth * _BYTES_A_ROW
    if free < needed:
        raise click.ClickException(
            f"{depth:,} rows may take {needed / 1e9:.0f} GB, {folder} has {free / 1e9:.0f}: another --folder?"
        )


if __name__ == "__main__":
    main()
