"""Flower's settings: it shows the whole fleet, so it never starts without a password."""

import os
import sys

if not os.environ.get("FLOWER_BASIC_AUTH") and not any("auth" in argument for argument in sys.argv):
    raise SystemExit("Flower shows the whole fleet to whoever finds it: set FLOWER_BASIC_AUTH=user:password")
