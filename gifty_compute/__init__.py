"""gifty-compute: one door to Gifty's embeddings, reranking, classification, scoring and LLM answers.

Each export is imported when it is first used, so that every part needs only what its own extra installs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gifty_compute.client.asynchronous import AsyncClient
    from gifty_compute.client.callbacks import verify_callback
    from gifty_compute.client.sync import Client
    from gifty_compute.clock import Deadline
    from gifty_compute.core import Core, build
    from gifty_compute.errors import GiftyComputeError
    from gifty_compute.poll.client import PollClient
    from gifty_compute.settings import Settings

__all__ = [
    "AsyncClient",
    "Client",
    "Core",
    "Deadline",
    "GiftyComputeError",
    "PollClient",
    "Settings",
    "build",
    "verify_callback",
]

_HOMES = {
    "AsyncClient": "gifty_compute.client.asynchronous",
    "Client": "gifty_compute.client.sync",
    "Core": "gifty_compute.core",
    "Deadline": "gifty_compute.clock",
    "GiftyComputeError": "gifty_compute.errors",
    "PollClient": "gifty_compute.poll.client",
    "Settings": "gifty_compute.settings",
    "build": "gifty_compute.core",
    "verify_callback": "gifty_compute.client.callbacks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
