"""A RunPod worker: the handlers' formats as the fake has them, in RunPod's own program, and ways to fail."""

from __future__ import annotations

import asyncio
from typing import Any

import runpod
from pydantic import TypeAdapter

from tests.fakes.runpod import handled

_RELEASE = asyncio.Event()


async def handler(job: dict[str, Any]) -> Any:
    """The first text says how the job ends."""
    work = job["input"]
    match (work.get("texts") or [""])[0]:
        case "raise":
            raise RuntimeError("CUDA out of memory, canary")
        case "refuse":
            TypeAdapter(int).validate_python("canary", strict=True)
        case "error":
            return {"error": "canary"}
        case "infinity's error":
            return {"object": "error", "message": "canary", "type": "BadRequestError", "code": 400}
        case "hold":
            await _RELEASE.wait()
        case "release":
            _RELEASE.set()
            return {"released": True}
    return handled(work)


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
