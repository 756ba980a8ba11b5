"""The step of a Celery worker that tells operators what it runs on: model, engine, GPU, version.

It is part of what the worker answers to `inspect stats`, and so of Flower's page of it and of Flower's API.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

from gifty_compute.poll.machine import describe

__all__ = ["tell_of_machine"]


def tell_of_machine(app: Celery, models: tuple[str, ...], engines: list[str]) -> None:
    """From now on workers of this app say so."""
    told = {**describe(models), "program": "celery", "engine": engines}
    words = {name: ", ".join(said) if isinstance(said, list) else said for name, said in told.items()}

    class Machine(bootsteps.StartStopStep):  # type: ignore[misc]
        def info(self, _worker: Any) -> dict[str, Any]:
            return words

    app.steps["worker"].add(Machine)
