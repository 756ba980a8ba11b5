"""The poll worker: work over HTTP, for machines that reach neither PostgreSQL nor Redis."""

from gifty_compute.poll.notebook import run

__all__ = ["run"]
