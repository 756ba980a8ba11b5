"""The model alone: reads tasks of texts, prints the seconds that they took; `MODEL < tasks.json`."""

from __future__ import annotations

import json
import sys

from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf


def main(model: str) -> None:
    """All tasks at once, as a worker would have them that never waits for its next claim."""
    tasks, clock = json.load(sys.stdin), SystemClock()
    inference = Inference(EngineShelf(), clock)
    inference.load(model)
    inference.submit(model, "embedding", {"texts": ["warm"]}).result()
    began = clock.monotonic()
    for future in [inference.submit(model, "embedding", {"texts": texts}) for texts in tasks]:
        future.result()
    print(clock.monotonic() - began)
    inference.close()


if __name__ == "__main__":
    main(sys.argv[1])
