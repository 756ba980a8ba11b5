"""Which ports of this machine are free."""

from __future__ import annotations

import contextlib
import errno
import socket

from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.stack.programs import Addresses

__all__ = ["choose_addresses"]


def choose_addresses(port: int) -> Addresses:
    """The asked port (0: a free one) for the facade, a free one for Flower."""
    with contextlib.ExitStack() as stack:
        # Both are held until both are known, so that they differ.
        numbers = [_bind(stack, wanted) for wanted in (port, 0)]
    return Addresses(port=numbers[0], flower_port=numbers[1])


def _bind(stack: contextlib.ExitStack, port: int) -> int:
    listener = stack.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise EmbeddedError(
            f"port {port} of 127.0.0.1 cannot be used ({exc.strerror}):"
            " choose another with --port, or --port 0 for any that is free"
        ) from exc
    number: int = listener.getsockname()[1]
    return number
