"""Submits: a batch beside a row and a message each, and beside the bare driver's inserts."""

from __future__ import annotations

import click

from benchmarks.queue import raw
from benchmarks.queue.stand import KIND, MODEL, ORIGIN, PAYLOAD, Stand, upload
from benchmarks.rounds import compare
from gifty_compute.queue.announce import queue_name, task_name
from gifty_compute.wire.batch import BatchOptions
from gifty_compute.wire.task import SubmitRequest

__all__ = ["measure"]

_BULK, _SINGLE = 10_000, 200


def measure(stand: Stand, rounds: int) -> None:
    """Prints tasks a second, committed and announced, and the ratios."""
    request = SubmitRequest(task_type=KIND, payload={**PAYLOAD, "model": MODEL})

    def batch() -> int:
        submitted = stand.batches.submit(upload(_BULK), BatchOptions(), ORIGIN)
        stand.announcer.catch_up(submitted.ready)
        return submitted.batch.total

    def execute_values() -> int:
        raw.insert_many(stand, _BULK)
        return _BULK

    def naive() -> int:
        for _ in range(_SINGLE):
            raw.insert(stand)
            stand.celery.send_task(task_name(KIND), args=[MODEL, []], queue=queue_name(KIND, MODEL))
        return _SINGLE

    def single() -> int:
        for _ in range(_SINGLE):
            stand.store.submit(request, ORIGIN)
        return _SINGLE

    def insert() -> int:
        for _ in range(_SINGLE):
            raw.insert(stand)
        return _SINGLE

    cases = [batch, execute_values, naive, single, insert]
    found = compare(rounds, {case.__name__: case for case in cases}, before=stand.empty)
    for case in cases:
        click.echo(f"  {case.__name__:16}{found.rate(case.__name__):10.0f} tasks/s")
    click.echo(f"  batch / insert, commit and message each   {found.ratio('batch', 'naive'):.1f} (25)")
    click.echo(
        f"  batch / execute_values by the thousand    {found.ratio('batch', 'execute_values'):.2f} (0.85)"
    )
    click.echo(f"  single submit / bare insert and commit    {found.ratio('single', 'insert'):.2f} (0.9)")
