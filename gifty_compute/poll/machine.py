"""The machine that a worker runs on, in the few words that operators see of it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gifty_compute.version import VERSION

__all__ = ["describe"]

# The driver says what there is without a library or a program of NVIDIA's.
_GPUS = Path("/proc/driver/nvidia/gpus")


def describe(models: Sequence[str], gpus: Path = _GPUS) -> dict[str, Any]:
    """What goes along with heartbeats as `info`: program, version, models, GPUs, kind of machine."""
    return {
        "program": "gifty-worker",
        "version": VERSION,
        "model": list(models),
        "gpu": _gpus(gpus) or [f"CPU, {os.cpu_count()} cores"],
        "host": platform.platform(terse=True),
    }


def _gpus(folder: Path) -> list[str]:
    found = [re.search(r"^Model:\s*(.+)$", one.read_text(), re.M) for one in folder.glob("*/information")]
    return sorted(match[1].strip() for match in found if match)
