"""The Celery app: `celery -A workers worker` finds it here."""

from __future__ import annotations

from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]

from gifty_compute.core import build
from gifty_compute.logging import configure_logging
from gifty_compute.queue.announce import queue_name
from gifty_compute.settings import read_settings
from workers.tasks import register

configure_logging()
app = Celery("gifty-compute", config_source="celeryconfig", set_as_current=False)
core = build(read_settings(), app)
served = register(app, core)
# A worker consumes only what it can serve; -Q narrows it further.
app.conf.task_queues = [Queue("maintain"), *(Queue(queue_name(kind, model)) for kind, model in served)]
