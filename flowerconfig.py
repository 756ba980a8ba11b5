"""Flower's settings: it shows the whole fleet, so it never starts without a password."""

import os
import sys

from gifty_compute.production import flower_flaws, has_open_entry

_basic_auth = os.environ.get("FLOWER_BASIC_AUTH", "")
_options = [argument.partition("=") for argument in sys.argv]
_has_own = any(name in ("--auth", "--basic_auth", "--basic-auth") and value for name, _, value in _options)

if has_open_entry(_basic_auth) and (_basic_auth or not _has_own):
    raise SystemExit(
        "Flower would show the whole fleet to any visitor: set FLOWER_BASIC_AUTH=user:password; several are "
        "comma separated, without an empty one"
    )

if os.environ.get("ENVIRONMENT") == "production" and (_flaws := flower_flaws(_basic_auth)):
    raise SystemExit("this is ENVIRONMENT=production: " + "; ".join(_flaws))
