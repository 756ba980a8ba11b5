"""The step of a Celery worker that tells operators what it runs on: model, engine, GPU, version.

It is part of what the worker answers to `inspect stats`, and so of Flower's page of it and of Flower's API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps

from gifty_compute.perform.running import Running
from gifty_compute.poll.machine import describe

__all__ = ["tell_of_machine"]


def tell_of_machine(app: Celery, running: Running, precisions: Callable[[], list[str]]) -> None:
    """From now on workers of this app say so; `precisions` are known once engines are loaded."""
    engines = sorted({running.recipe(name).engine for name in running.engines})
    told = {**describe(running.engines), "program": "celery", "engine": engines}

    class Machine(bootsteps.StartStopStep):  # type: ignore[misc]
        def info(self, _worker: Any) -> dict[str, Any]:
            said = {**told, "precision": precisions()}
            return {
                name: ", ".join(word) if isinstance(word, list) else word
                for name, word in said.items()
                if word
            }

    app.steps["worker"].add(Machine)
