"""The poll worker from a checkout: `python -m workers.poll` is `gifty-worker`."""

from __future__ import annotations

from gifty_compute.poll.cli import main

if __name__ == "__main__":
    main(prog_name="gifty-worker")
