"""The poll worker with all points planted."""

import tests.chaos.crashing
from gifty_compute.poll.cli import main

__all__ = ["tests"]

if __name__ == "__main__":
    main(prog_name="gifty-worker")
