"""The server's entry: `granian --interface wsgi api.wsgi:app`."""

from __future__ import annotations

from celery import Celery

from api import create_app
from gifty_compute.core import build
from gifty_compute.logging import configure_logging
from gifty_compute.settings import read_settings

configure_logging()
core = build(read_settings(), Celery("gifty-compute", config_source="celeryconfig", set_as_current=False))
core.maintainer.start()
app = create_app(core)
