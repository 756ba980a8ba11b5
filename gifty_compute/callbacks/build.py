"""The callbacks wired together: who may be told, what waits, and the sender."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry

from gifty_compute.callbacks.addresses import is_public
from gifty_compute.callbacks.delivery import Delivery, Roads
from gifty_compute.callbacks.metrics import CallbackMetrics
from gifty_compute.callbacks.receivers import Receivers
from gifty_compute.callbacks.rendering import Rendering
from gifty_compute.callbacks.sender import CallbackSender
from gifty_compute.callbacks.signing import Signer
from gifty_compute.clock import Clock
from gifty_compute.logic.logic import Logic
from gifty_compute.queue.outbox import Outbox

__all__ = ["Callbacks", "build_callbacks"]

_PERIOD_SECONDS = 1.0


@dataclass(frozen=True)
class Callbacks:
    """What a process needs of callbacks. Without a secret there is no sender, and nobody is admitted."""

    receivers: Receivers
    outbox: Outbox
    sender: CallbackSender | None

    def start(self) -> None:
        if self.sender is not None:
            self.sender.start()

    def close(self) -> None:
        if self.sender is not None:
            self.sender.stop()


def build_callbacks(
    secrets: Sequence[str],
    outbox: Outbox,
    batch: Callable[[UUID], dict[str, Any]],
    logic: Callable[[], Logic],
    clock: Clock,
    registry: CollectorRegistry,
) -> Callbacks:
    """The parts, which dial nothing yet. The newest secret is first."""
    missing = _missing(secrets)
    receivers = Receivers(logic, missing=missing)
    if missing is not None:
        return Callbacks(receivers, outbox, sender=None)
    delivery = Delivery(outbox, receivers, Rendering(outbox, batch), Signer(secrets), _roads(), clock)
    sender = CallbackSender(outbox, delivery, clock, CallbackMetrics(registry), period=_PERIOD_SECONDS)
    return Callbacks(receivers, outbox, sender)


def _missing(secrets: Sequence[str]) -> str | None:
    if not secrets:
        return "CALLBACK_SECRET is not set"
    if importlib.util.find_spec("pycurl") is None:
        return "pycurl is not installed, and urllib3 cannot guard whom it calls"
    return None


def _roads() -> Roads:
    from gifty_compute.transport.curl import CurlTransport  # noqa: PLC0415 - a machine may be without libcurl

    return Roads(public=CurlTransport(admits=is_public), named=CurlTransport())
