"""Celery: a hundred tasks an announcement beside a no-op a message, from publishing to the last one done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from benchmarks.queue.stand import Stand
from benchmarks.rounds import compare
from benchmarks.servers import ROOT

__all__ = ["measure"]

_MESSAGES, _ANNOUNCEMENTS = 1000, 50


def measure(stand: Stand, rounds: int) -> None:
    """Prints tasks a second of both, and the ratio."""

    def messages() -> int:
        for number in range(_MESSAGES):
            stand.celery.send_task("noop", args=[number], queue="bench")
        _drained(stand)
        return _MESSAGES

    def announcements() -> int:
        for _ in range(_ANNOUNCEMENTS):
            stand.celery.send_task("hundred", queue="bench")
        _drained(stand)
        return _ANNOUNCEMENTS * 100

    stand.empty()
    stand.fill((rounds + 1) * _ANNOUNCEMENTS * 100)
    stand.vacuum()
    with _worker(stand):
        found = compare(rounds, {"messages": messages, "announcements": announcements})
    assert stand.count("completed") == (rounds + 1) * _ANNOUNCEMENTS * 100
    click.echo(f"  a no-op a message                {found.rate('messages'):8.0f} tasks/s")
    click.echo(f"  a hundred tasks an announcement  {found.rate('announcements'):8.0f} tasks/s")
    click.echo(
        f"  ratio                                     {found.ratio('announcements', 'messages'):.1f} (15)"
    )


@contextmanager
def _worker(stand: Stand) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.queue.celery_app", "worker"]
    command += ["--pool", "solo", "--queues", "bench", "--loglevel", "ERROR"]
    command += ["--without-gossip", "--without-mingle"]
    env = {**os.environ, "DATABASE_URL": stand.dsn, "REDIS_URL": stand.valkey.url}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _drained(stand: Stand) -> None:
    """Returns when no message waits and none is held."""
    pause = threading.Event()
    for _ in range(60_000):
        if not stand.redis.llen("bench") and not stand.redis.hlen("unacked"):
            return
        pause.wait(0.002)
    raise SystemExit("the Celery worker did not come to an end in two minutes")
