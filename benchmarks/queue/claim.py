"""Claims: a hundred tasks beside the bare statement; and in a long queue beside a short one."""

from __future__ import annotations

import click

from benchmarks.queue import raw
from benchmarks.queue.stand import WANT, Stand, holder
from benchmarks.rounds import compare

__all__ = ["measure", "measure_depth"]

_CLAIMS = 5
_SHORT = 10_000


def measure(stand: Stand, rounds: int) -> None:
    """Prints tasks claimed a second, and the ratio."""

    def store() -> int:
        return sum(len(stand.leases.claim(holder(), WANT).tasks) for _ in range(_CLAIMS))

    def bare() -> int:
        return sum(len(raw.claim(stand)) for _ in range(_CLAIMS))

    stand.empty()
    stand.fill((rounds + 1) * 2 * _CLAIMS * 100)
    stand.vacuum()
    found = compare(rounds, {"store": store, "bare": bare})
    click.echo(f"  store {found.rate('store'):.0f} tasks/s, bare statement {found.rate('bare'):.0f} tasks/s")
    click.echo(f"  claim of 100 / bare statement             {found.ratio('store', 'bare'):.2f} (0.9)")


def measure_depth(short: Stand, long: Stand, rounds: int, depth: int) -> None:
    """Prints what a claim costs with ten thousand pending and with `depth`, and the ratio."""

    def claims(stand: Stand) -> int:
        for _ in range(_CLAIMS):
            assert len(stand.leases.claim(holder(), WANT).tasks) == WANT.limit
        return _CLAIMS

    for stand, rows in ((short, _SHORT), (long, depth)):
        stand.fill(rows)
        stand.vacuum()
        click.echo(f"  {rows:>10,} pending: {stand.megabytes():,.0f} MB")
    # The first change of a page after a checkpoint writes all of it to the log.
    short.checkpoint()
    logs = {"short": short.log_bytes(lambda: claims(short)), "long": long.log_bytes(lambda: claims(long))}
    # Each round takes 500 of the ten thousand.
    found = compare(min(rounds, 15), {"short": lambda: claims(short), "long": lambda: claims(long)})
    for name, rows in (("short", _SHORT), ("long", depth)):
        log = logs[name] / _CLAIMS / 1000
        click.echo(f"  {rows:>10,} pending: {1000 / found.rate(name):.2f} ms and {log:.0f} kB a claim of 100")
    click.echo(f"  cost at {depth:,} / at {_SHORT:,}          {found.ratio('short', 'long'):.2f} (1.2)")
