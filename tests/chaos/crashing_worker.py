"""The Celery app with all points planted."""

import tests.chaos.crashing
from workers.celery import app

__all__ = ["app", "tests"]
