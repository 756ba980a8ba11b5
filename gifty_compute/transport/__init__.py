"""How bytes reach a provider: one interface, pycurl behind it where it is installed, urllib3 elsewhere."""

from __future__ import annotations

import importlib.util

from gifty_compute.transport.base import Transport

__all__ = ["build_transport"]


def build_transport(*, pool_size: int = 256) -> Transport:
    """The cheapest transport that this machine has; each imports what it needs only here."""
    if importlib.util.find_spec("pycurl") is not None:
        from gifty_compute.transport.curl import CurlTransport  # noqa: PLC0415

        return CurlTransport(pool_size=pool_size)
    from gifty_compute.transport.pooled import PooledTransport  # noqa: PLC0415

    return PooledTransport(pool_size=pool_size)
