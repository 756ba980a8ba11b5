"""The facade with all points planted."""

import tests.chaos.crashing
from api.wsgi import app

__all__ = ["app", "tests"]
