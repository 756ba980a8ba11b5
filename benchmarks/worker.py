"""A worker from end to end (claim, decode, plan, forward, encode, submit) beside the model alone.

python -m benchmarks.worker

The model alone is the same engine under the same planner, in a process that has all texts from the beginning.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from random import Random

import click
import psycopg2
import requests

from benchmarks.report import say_place, say_table
from benchmarks.servers import ROOT, Server, facade, stores

__all__ = ["LOGIC", "corpora", "poll_worker", "worked"]

LOGIC = "llm: {default_provider: groq}"
_TIMES = "SELECT count(*), extract(epoch FROM max(completed_at) - min(started_at)) FROM compute_tasks"

Tasks = Sequence[Sequence[str]]
Worker = Callable[[], AbstractContextManager[None]]


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--texts", default=2000, show_default=True, help="A round, of each kind.")
@click.option("--texts-a-task", default=16, show_default=True)
@click.option("--model", default="multilingual-e5-small", show_default=True)
def main(rounds: int, texts: int, texts_a_task: int, model: str) -> None:
    """Prints texts a second of the model alone, of a poll worker and of a Celery worker, and their shares."""
    say_place()
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder, ExitStack() as stack:
        at = stack.enter_context(stores(Path(folder)))
        server = stack.enter_context(facade(Path(folder) / "facade", LOGIC, env={}, at=at))
        workers = {
            "a poll worker": poll_worker(server, model),
            "a Celery worker": _celery(at[0].url, at[1].url),
        }
        for name, corpus in corpora(texts).items():
            tasks = [corpus[start : start + texts_a_task] for start in range(0, len(corpus), texts_a_task)]
            rates: dict[str, list[float]] = {kind: [] for kind in ("the model alone", *workers)}
            for turn in range(rounds + 1):
                seconds = {"the model alone": _alone(model, tasks)}
                for kind, worker in workers.items():
                    seconds[kind] = worked(server, at[0].url, worker, model, tasks)
                if turn:  # the first round warms up
                    for kind, took in seconds.items():
                        rates[kind].append(len(corpus) / took)
            rows = [
                [kind, f"{statistics.median(found):.0f}", _share(found, rates)]
                for kind, found in rates.items()
            ]
            header = ["", "texts/s", "of the model alone"]
            say_table(f"{name}, {texts_a_task} a task; medians of {rounds} rounds", header, rows)


def corpora(texts: int) -> dict[str, list[str]]:
    """Russian titles, no two alike; and a mix of 5 to 200 tokens: words, titles, one or two descriptions."""
    lines = files("gifty_compute.demo").joinpath("catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    products, rng = [json.loads(line) for line in lines], Random(1)
    titles = [f"{product['title']} №{rng.randrange(1000)}" for product in rng.choices(products, k=texts)]
    mixed = [_mixed(rng, products) for _ in range(texts)]
    return {f"{texts} titles": titles, f"{texts} texts of 5 to 200 tokens": mixed}


def _mixed(rng: Random, products: Sequence[dict[str, str]]) -> str:
    one, other = rng.sample(products, 2)
    described = f"{one['title']}. {one['description']}"
    return rng.choice([one["category"], one["title"], described, f"{described} {other['description']}"])


def _share(found: Sequence[float], rates: dict[str, list[float]]) -> str:
    shares = [rate / alone for rate, alone in zip(found, rates["the model alone"], strict=True)]
    return f"{statistics.median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f})"


def _alone(model: str, tasks: Tasks) -> float:
    """Seconds that a process which does nothing else needs."""
    command = [sys.executable, "-m", "benchmarks.worker_alone", model]
    given = json.dumps(tasks).encode()
    return float(subprocess.run(command, input=given, stdout=subprocess.PIPE, cwd=ROOT, check=True).stdout)


def worked(server: Server, dsn: str, worker: Worker, model: str, tasks: Tasks) -> float:
    """Seconds between the first claim and the last result, by the database's clock."""
    database = psycopg2.connect(dsn)
    database.autocommit = True
    cursor = database.cursor()
    cursor.execute("TRUNCATE compute_tasks, compute_batches, compute_claims CASCADE")
    lines = [
        json.dumps({"task_type": "embedding", "payload": {"texts": one, "model": model}}) for one in tasks
    ]
    headers = {"Authorization": "Bearer bench-token", "Content-Type": "application/x-ndjson"}
    answer = requests.post(
        f"{server.url}/v1/batches", data="\n".join(lines).encode(), headers=headers, timeout=60
    )
    answer.raise_for_status()
    pause = threading.Event()
    with worker():
        for _ in range(6000):
            cursor.execute(_TIMES + " WHERE status = 'completed'")
            [(done, seconds)] = cursor.fetchall()
            if done == len(tasks):
                database.close()
                return float(seconds)
            pause.wait(0.1)
    raise SystemExit(f"{done} of {len(tasks)} tasks were done in ten minutes")


def poll_worker(server: Server, model: str, *more: str) -> Worker:
    """A poll worker for as long as the block lasts."""
    command = ["-m", "workers.poll", "--api", server.url, "--model", model, *more]
    return lambda: _program(command, {"GIFTY_WORKER_TOKEN": "internal"})


def _celery(dsn: str, redis_url: str) -> Worker:
    command = ["-m", "celery", "-A", "workers", "worker", "--pool", "threads", "--concurrency", "1"]
    command += ["--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
    return lambda: _program(command, {"DATABASE_URL": dsn, "REDIS_URL": redis_url})


@contextmanager
def _program(command: list[str], env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


if __name__ == "__main__":
    main()
