"""Flower's settings: it shows the whole fleet, so it never starts without a password."""

import os
import sys

from gifty_compute.production import flower_flaws

if not os.environ.get("FLOWER_BASIC_AUTH") and not any("auth" in argument for argument in sys.argv):
    raise SystemExit("Flower shows the whole fleet to whoever finds it: set FLOWER_BASIC_AUTH=user:password")

if os.environ.get("ENVIRONMENT") == "production" and (
    _flaws := flower_flaws(os.environ.get("FLOWER_BASIC_AUTH", ""))
):
    raise SystemExit("this is ENVIRONMENT=production: " + "; ".join(_flaws))
