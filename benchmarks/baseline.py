"""What Celery and Redis alone make of the same faults: hard kills of the worker, a flush of the broker.

    python -m benchmarks.baseline

Lost is a task that was accepted and is nowhere any more; stranded is one that no worker gets before the
broker's visibility timeout of an hour.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
from celery import Celery
from redis import Redis

from benchmarks.servers import ROOT
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.queue.broker import broker_url

# So long without any progress means that there will be none.
_STILL_SECONDS = 20.0
_LIMIT_SECONDS = 900.0


@dataclass(frozen=True)
class Outcome:
    """What became of the tasks."""

    tasks: int
    done: int
    twice: int
    stranded: int

    @property
    def lost(self) -> int:
        return self.tasks - self.done - self.stranded


@click.command()
@click.option("--tasks", default=2000, show_default=True)
@click.option("--kills", default=20, show_default=True)
@click.option("--flushed", default=600, show_default=True, help="Tasks of the run in which Redis is flushed.")
@click.option("--seed", default=1, show_default=True)
def main(tasks: int, kills: int, flushed: int, seed: int) -> None:
    """Runs three scenarios and prints a table."""
    rng = Random(seed)
    click.echo(f"{'Celery + Redis alone':32}{'tasks':>7}{'done':>7}{'lost':>7}{'stranded':>10}{'twice':>7}")
    scenarios: dict[str, Callable[[], Outcome]] = {
        f"defaults, {kills} hard kills": lambda: _killed(tasks, kills, rng, late=False),
        f"late acks, {kills} hard kills": lambda: _killed(tasks, kills, rng, late=True),
        "late acks, FLUSHALL once": lambda: _flushed(flushed),
    }
    for name, scenario in scenarios.items():
        found = scenario()
        figures = f"{found.tasks:7}{found.done:7}{found.lost:7}{found.stranded:10}{found.twice:7}"
        click.echo(f"{name:32}{figures}")


def _killed(tasks: int, kills: int, rng: Random, *, late: bool) -> Outcome:
    with _bench(late=late) as bench:
        bench.publish(tasks)
        for number in range(kills):
            with bench.worker() as worker:
                bench.wait_for(bench.done + rng.randrange(1, 2 * tasks // (kills + 1) - 20))
                os.killpg(worker.pid, signal.SIGKILL)
            if bench.waiting == 0:
                raise SystemExit(f"all tasks were taken after {number + 1} kills; give it more")
        with bench.worker():
            bench.wait_for(tasks)
            return bench.outcome(tasks)


def _flushed(tasks: int) -> Outcome:
    with _bench(late=True) as bench:
        bench.publish(tasks)
        with bench.worker():
            bench.wait_for(tasks // 10)
            bench.broker.flushall()
            bench.wait_for(tasks)
            return bench.outcome(tasks)


class _Bench:
    """A broker, a ledger, and workers that come and go."""

    def __init__(self, broker: Valkey, ledger: Valkey, *, late: bool) -> None:
        self.broker, self._ledger = Redis.from_url(broker.url), Redis.from_url(ledger.url)
        self._env = {
            **os.environ,
            "BENCH_BROKER": broker.url,
            "BENCH_LEDGER": ledger.url,
            "BENCH_ACKS_LATE": "1" if late else "0",
        }
        self._url = broker_url(broker.url)

    @property
    def done(self) -> int:
        return int(self._ledger.zcard("done"))

    @property
    def waiting(self) -> int:
        return int(self.broker.llen("bench"))

    def publish(self, tasks: int) -> None:
        with Celery("baseline", broker=self._url, set_as_current=False) as app:
            for number in range(tasks):
                app.send_task("work", args=[number], task_id=str(number), queue="bench")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.baseline_app", "worker"]
        command += ["--concurrency", "2", "--queues", "bench", "--loglevel", "CRITICAL"]
        command += ["--without-gossip", "--without-mingle"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() not in (None, -signal.SIGKILL):
                raise SystemExit(f"the worker ended by itself with {process.returncode}")
            process.terminate()
            process.wait(60)

    def wait_for(self, done: int) -> None:
        """Returns when so many are done, or nothing moves any more."""
        began = moved = time.perf_counter()
        seen, pause = self.done, threading.Event()
        while seen < done and time.perf_counter() - moved < _STILL_SECONDS:
            pause.wait(0.02)
            now = self.done
            if now != seen:
                seen, moved = now, time.perf_counter()
            if time.perf_counter() - began > _LIMIT_SECONDS:
                raise SystemExit(f"not done within {_LIMIT_SECONDS:.0f} s")

    def outcome(self, tasks: int) -> Outcome:
        counts: list[tuple[bytes, float]] = self._ledger.zrange("done", 0, -1, withscores=True)
        done = {name.decode() for name, _ in counts}
        held: list[Any] = [json.loads(value) for value in self.broker.hvals("unacked")]
        stranded = {message[0]["headers"]["id"] for message in held} - done
        return Outcome(tasks, len(done), sum(times > 1 for _, times in counts), len(stranded))


@contextmanager
def _bench(*, late: bool) -> Iterator[_Bench]:
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as name, ExitStack() as stack:
        broker, ledger = Valkey(Path(name) / "broker"), Valkey(Path(name) / "ledger")
        for server in (broker, ledger):
            server.start()
            stack.callback(server.stop)
        yield _Bench(broker, ledger, late=late)


if __name__ == "__main__":
    main()
