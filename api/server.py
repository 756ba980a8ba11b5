"""The server: granian's own command line, with idle connections that outlast those of a load balancer.

Load balancers keep a connection to the facade for 60 s and send the next request over it. A server that
closes it earlier makes such requests fail. granian closes a connection on which no request begins within
`--http1-header-read-timeout`: by default after 30 s, and its command line allows 60 s at most.
"""

from __future__ import annotations

import click
from granian.cli import cli

__all__ = ["IDLE_SECONDS", "command"]

IDLE_SECONDS = 75
_LONGEST_IDLE_SECONDS = 3600


def command() -> click.Command:
    """granian's command with a longer idle time, as default and as maximum."""
    [option] = [option for option in cli.params if option.name == "http1_header_read_timeout"]
    option.type = click.IntRange(1, _LONGEST_IDLE_SECONDS * 1000)
    option.default = IDLE_SECONDS * 1000
    return cli


if __name__ == "__main__":
    command()(auto_envvar_prefix="GRANIAN")
