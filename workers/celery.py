"""The Celery app: `celery -A workers worker` finds it here."""

from __future__ import annotations

from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]

from gifty_compute.logging import configure_logging
from gifty_compute.logic.source import read_logic
from gifty_compute.perform.running import Running, handlers_of
from gifty_compute.queue.announce import queue_name
from gifty_compute.settings import read_bridge_settings, read_logic_settings, read_serving_settings
from workers import outage
from workers import telling as telling  # makes Celery know it
from workers.machine import tell_of_machine
from workers.tasks import register

configure_logging()
app = Celery(
    "gifty-compute",
    config_source="celeryconfig",
    events=f"{outage.__name__}:Events",
    task_cls=f"{outage.__name__}:Task",
    set_as_current=False,
)
settings = read_logic_settings()
logic = read_logic(settings.logic_config_path, settings.llm_overrides)
serving = read_serving_settings()
running = Running(serving.models, handlers=handlers_of(serving.handlers), logic=lambda: logic)
worker = register(app, running)
tell_of_machine(app, running, worker.precisions)
# A worker consumes only what it can serve; -Q narrows it further. Over HTTP it cannot maintain.
queues = [] if read_bridge_settings().is_given else ["maintain"]
queues += [queue_name(kind, model) for kind, model in running.queues]
app.conf.task_queues = [Queue(name) for name in queues]  # type: ignore[no-untyped-call]
