"""The day runs on the stores and the fleet of chaos."""

from __future__ import annotations

from tests.chaos.conftest import new_fleet, servers

__all__ = ["new_fleet", "servers"]
