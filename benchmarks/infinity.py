"""A poll worker beside infinity-emb's server: the same weights on the same cores, both over HTTP.

python -m benchmarks.infinity

The worker is measured from the first claim to the last result, tasks lying ready; infinity from the first
request to the last answer, with as many callers as it takes texts into a batch.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import requests

from benchmarks.peers import infinity_venv
from benchmarks.report import say_place, say_table
from benchmarks.servers import Server, facade, free_port, started, stores
from benchmarks.twin import write_twin
from benchmarks.worker import LOGIC, corpora, poll_worker, worked
from gifty_compute.clock import SystemClock
from gifty_compute.engines.form.build import build
from gifty_compute.logic.source import DEFAULT_LOGIC

_WAITING = 32
_MODEL = "multilingual-e5-small"


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--texts", default=1000, show_default=True, help="A round, of each kind.")
def main(rounds: int, texts: int) -> None:
    """Prints texts a second of both, at one text a task and at sixteen; the engine is `onnx` in fp32."""
    venv = infinity_venv()
    say_place()
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder, ExitStack() as stack:
        write_twin(Path(folder) / "twin")
        infinity = stack.enter_context(_infinity(venv, Path(folder) / "twin"))
        at = stack.enter_context(stores(Path(folder)))
        server = stack.enter_context(facade(Path(folder) / "facade", LOGIC, env={}, at=at))
        form = Path(folder) / "onnx"
        build(DEFAULT_LOGIC.recipe(_MODEL), form)
        worker = poll_worker(server, _MODEL, "--engine", "onnx", "--directory", str(form))
        rows = []
        for size in (1, 16):
            corpus = next(iter(corpora(texts).values()))
            tasks = [corpus[start : start + size] for start in range(0, len(corpus), size)]
            ours, theirs = [], []
            for turn in range(rounds + 1):
                pair = worked(server, at[0].url, worker, _MODEL, tasks), _asked(infinity, tasks)
                if turn:  # the first round warms up
                    ours.append(texts / pair[0])
                    theirs.append(texts / pair[1])
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            cells = (f"{statistics.median(ours):.0f}", f"{statistics.median(theirs):.0f}", f"{ratio:.2f}x")
            rows.append([f"{size} a task", *cells])
    header = ["", "gifty-worker, texts/s", "infinity-emb, texts/s", "ratio"]
    say_table(f"{texts} Russian titles; medians of {rounds} rounds", header, rows)


@contextmanager
def _infinity(venv: Path, model: Path) -> Iterator[Server]:
    port = free_port()
    command = [str(venv / "bin" / "infinity_emb"), "v2", "--model-id", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--engine", "torch", "--device", "cpu", "--dtype", "float32"]
    command += ["--batch-size", str(_WAITING), "--no-vector-disk-cache", "--no-bettertransformer"]
    env = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_WAIT_POLICY": "passive"}
    with started(command, port, ready="/health", env={**os.environ, **env}) as server:
        yield server


def _asked(server: Server, tasks: Sequence[Sequence[str]]) -> float:
    """Seconds for all of it, asked by so many callers at once that a batch is full."""
    clock, session = SystemClock(), requests.Session()
    callers = max(2, _WAITING // len(tasks[0]))
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=callers))

    def ask(texts: Sequence[str]) -> None:
        # The prefix is the model's own; the worker's engine adds it.
        body = {"model": "twin", "input": [f"passage: {text}" for text in texts]}
        answer = session.post(f"{server.url}/embeddings", json=body, timeout=120)
        answer.raise_for_status()
        assert len(answer.json()["data"]) == len(texts)

    with ThreadPoolExecutor(callers) as pool:
        began = clock.monotonic()
        list(pool.map(ask, tasks))
        return clock.monotonic() - began


if __name__ == "__main__":
    main()
