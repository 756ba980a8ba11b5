"""`gifty-compute up`: the stack until somebody stops it."""

from __future__ import annotations

from collections.abc import Callable

from gifty_compute.stack.interrupts import Interrupts
from gifty_compute.stack.options import Options
from gifty_compute.stack.stack import Stack

__all__ = ["up"]


def up(options: Options, announce: Callable[[str], None]) -> None:
    """Run until Ctrl-C or SIGTERM, then drain and return; a second one cuts the drain short.

    Raises EmbeddedError when something cannot be started; nothing is left running then.
    """
    with Interrupts() as interrupts:
        announce(f"Starting in {options.data_dir} ...")
        with Stack(options, announce, interrupts=interrupts) as stack:
            if stack.wait_ready():
                _announce_places(stack, announce)
                interrupts.stop.wait()
            announce("Stopping: the workers finish what they hold (Ctrl-C again to cut it short) ...")
        announce("Stopped.")


def _announce_places(stack: Stack, announce: Callable[[str], None]) -> None:
    info = stack.info
    user = info.flower_auth.partition(":")[0]
    announce(f"Ready.  API     {info.api_url}  (docs: {info.api_url}/docs)")
    announce(f"        Flower  {info.flower_url}  (user {user}, password in run.json)")
    announce(f"        Tokens  {info.data_dir}/run.json")
    announce(f"        Logs    {info.data_dir}/logs")
    announce("Ctrl-C stops it.")
