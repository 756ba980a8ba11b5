"""What a worker tells of itself when Flower asks: all that Celery tells, but no password."""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command
from kombu.utils.url import maybe_sanitize_url

__all__ = ["stats"]


# Registered under Celery's own name, in place of it.
@inspect_command(name="stats")  # type: ignore[untyped-decorator]
def stats(state: Any, **_: object) -> dict[str, Any]:
    """Request worker statistics/information."""
    told: dict[str, Any] = state.consumer.controller.stats()
    broker = told.get("broker")
    if isinstance(broker, dict):
        # Of a unix socket Celery gives the whole address as the host, password and all.
        told["broker"] = {name: maybe_sanitize_url(value) for name, value in broker.items()}
    return told
