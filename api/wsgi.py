"""The server's entry: `python -m api.server --interface wsgi api.wsgi:app`."""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
from multiprocessing.util import Finalize

from celery import Celery

from api import create_app
from api.admission import threads_of_server
from gifty_compute.core import build
from gifty_compute.logging import configure_logging
from gifty_compute.production import refuse_weak_facade
from gifty_compute.settings import read_settings

DESCRIPTORS = 16_384
"""Twice as many as there may be connections (`--backpressure`)."""
configure_logging()
# A connection takes one; most systems let a process have many more than they give it unasked.
has, may_have = resource.getrlimit(resource.RLIMIT_NOFILE)
if has != resource.RLIM_INFINITY and has < DESCRIPTORS:
    most = DESCRIPTORS if may_have == resource.RLIM_INFINITY else min(DESCRIPTORS, may_have)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, may_have))
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
core.presence.start()
# Writes what was spent in the last second. atexit does not run in the server's processes, which are
# multiprocessing's.
Finalize(None, core.high.close, exitpriority=0)
threads = threads_of_server(sys.argv, os.environ, settings.facade_threads)
if threads < settings.facade_threads:
    message = (
        "the server has %d threads, FACADE_THREADS says %d: places are made for the threads of the server"
    )
    logging.getLogger(__name__).warning(message, threads, settings.facade_threads)
app = create_app(core, threads=threads)
# What is loaded by now stays. A full pass of the collector over it stops all threads for 50 ms.
gc.collect()
gc.freeze()
