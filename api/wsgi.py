"""The server's entry: `granian --interface wsgi api.wsgi:app`."""

from __future__ import annotations

import gc
import os

from celery import Celery

from api import create_app
from gifty_compute.core import build
from gifty_compute.logging import configure_logging
from gifty_compute.production import refuse_weak_facade
from gifty_compute.settings import read_settings

configure_logging()
settings = read_settings()
refuse_weak_facade(settings)
celery = Celery("gifty-compute", config_source="celeryconfig", set_as_current=False)
# Callers wait while their task is announced: a broker that hangs is given a second, not a worker's patience.
celery.conf.broker_transport_options = {**celery.conf.broker_transport_options, "socket_timeout": 1}
core = build(settings, celery, environ=os.environ)
core.start()
core.high.start(lambda: core.logic)
core.maintainer.start()
core.callbacks.start()
core.payer.start()
core.fleet.start()
app = create_app(core)
# What is loaded by now stays. A full pass of the collector over it stops all threads for 50 ms.
gc.collect()
gc.freeze()
