"""A process that has worked with torch, and forks: its child answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.torch import tiny

ROOT = Path(__file__).parents[2]

PREFORK = """
import os, signal, sys
from pathlib import Path
from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.logic.file import SpaceSection
from gifty_compute.logic.recipe import Recipe

space = SpaceSection(dim=32, revision="tiny", pooling="cls", normalized=True, quantization="none")
recipe = Recipe("tiny", "torch", frozenset({"embedding"}), "tiny", space, directory=Path(sys.argv[1]))
inference = Inference(EngineShelf(lambda _: recipe), SystemClock())

def work():
    inference.load("tiny")
    payload = {"texts": ["чай мёд плед кофе " * 6] * 64}
    return inference.submit("tiny", "embedding", payload).result(60)["embeddings"]

warm = work()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if abs(work() - warm).max() < 1e-5 else 3)
_, ended = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(ended))
"""


def test_a_child_of_a_process_that_has_worked_answers(tmp_path: Path) -> None:
    directory = tiny.encoder(tmp_path)

    ended = subprocess.run(
        [sys.executable, "-c", PREFORK, str(directory)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "2", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert ended.returncode == 0, ended.stderr[-2000:]
