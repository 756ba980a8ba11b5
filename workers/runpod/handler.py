"""The handler of a RunPod serverless endpoint: `python -u handler.py`.

Jobs that come together share passes of the model, since all of them go to one inference service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import runpod

from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import GiftyComputeError, InvalidRequest
from gifty_compute.logging import configure_logging
from gifty_compute.settings import read_bridge_settings
from gifty_compute.wire.body import parse
from workers.runpod.formats import own_name, read
from workers.runpod.shift import ShiftRequest, Shifts

__all__ = ["Handler", "main"]

log = logging.getLogger(__name__)

# Jobs in one worker at a time: as many as a pass may hold anyway.
_CONCURRENCY = 32
_DEFAULT_MODELS = "multilingual-e5-small"


class Handler:
    """Answers jobs by the models that this worker serves."""

    def __init__(self, inference: Inference, models: tuple[str, ...], shifts: Shifts) -> None:
        self._inference, self._models, self._shifts = inference, models, shifts

    async def __call__(self, job: dict[str, Any]) -> Any:
        """The output of a job; one with `error` makes it FAILED, and says nothing of the texts."""
        try:
            said = job.get("input")
            if isinstance(said, dict) and "shift" in said:
                shift = parse(ShiftRequest, said["shift"], where="shift")
                return await asyncio.to_thread(self._shifts.run, shift)
            asked = read(said, self._models)
            future = await asyncio.to_thread(
                self._inference.submit, asked.model, asked.task_type, asked.payload
            )
            return asked.answer(await asyncio.wrap_future(future))
        except InvalidRequest as error:
            return {"error": f"validation error: {error.message}"}
        except GiftyComputeError as error:
            log.warning("job %s failed: %s", job.get("id"), error.for_operators)
            return {"error": f"{error.code}: {error.message}"}


def main() -> None:
    """Loads the models, then serves until RunPod ends this worker."""
    configure_logging()
    named = os.environ.get("GIFTY_MODELS") or _DEFAULT_MODELS
    inference = Inference(EngineShelf(), SystemClock())
    try:
        models = tuple(own_name(name.strip()) for name in named.split(","))
        for model in models:
            inference.load(model)
    except GiftyComputeError as error:
        sys.exit(f"GIFTY_MODELS={named}: {error}")
    shifts = Shifts(inference, models, read_bridge_settings(), SystemClock())
    handler = Handler(inference, models, shifts)
    runpod.serverless.start({"handler": handler.__call__, "concurrency_modifier": lambda _: _CONCURRENCY})


if __name__ == "__main__":
    main()
