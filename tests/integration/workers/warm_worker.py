"""The Celery app, in a parent process that has used the model before it forks."""

from typing import Any

from celery.signals import worker_init

from gifty_compute.clock import SystemClock
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from workers.celery import app

__all__ = ["app"]


@worker_init.connect
def warm(**_: Any) -> None:
    inference = Inference(EngineShelf(), SystemClock())
    inference.submit("multilingual-e5-small", "embedding", {"texts": ["чайник"] * 8}).result(60)
    print("the parent is warm", flush=True)
