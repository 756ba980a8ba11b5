"""What can go wrong with the servers and programs that this machine runs for itself."""

from __future__ import annotations

from gifty_compute.errors import GiftyComputeError

__all__ = ["ChildFailed", "DirectoryInUse", "EmbeddedError", "MissingProgram"]


class EmbeddedError(GiftyComputeError):
    """A server or program that should run on this machine does not."""

    code = "embedded_error"


class MissingProgram(EmbeddedError):
    """A server's program is neither installed as a wheel nor on PATH."""


class DirectoryInUse(EmbeddedError):
    """Another process works in the same data directory."""


class ChildFailed(EmbeddedError):
    """A child ended, or was not ready in time, when it was needed."""
