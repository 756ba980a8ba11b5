"""Probes: alive, and ready to take work."""

from __future__ import annotations

from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import core, operation
from gifty_compute.core import Core
from gifty_compute.errors import StoreUnavailable
from gifty_compute.queue.waiting import not_placed, not_sampled, unserved
from gifty_compute.routing.canary import Standing
from gifty_compute.wire.answers import HealthAnswer

__all__ = ["blueprint"]

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
@blueprint.get("/healthz")
@operation(scope=None, answers={200: HealthAnswer})
def healthz() -> Response:
    """The process answers."""
    return json_answer({"status": "ok"})


@blueprint.get("/readyz")
@operation(scope=None, answers={200: HealthAnswer}, errors=(503,))
def readyz() -> Response:
    """The process can take work: the database answers and is migrated.

    "degraded" names what needs the operator while work goes on: `logic`, when the file is bad and an older
    version stays in force; `spaces`, when a provider gives vectors of another space and is kept out;
    `workers`, when work waits and no worker takes it; `maintain`, when nothing maintains the queue.
    """
    if not core().database.migrated():
        raise StoreUnavailable("database: not migrated; run gifty-compute migrate", retry_after=5)
    of_queue = _of_queue(core())
    parts = [
        *(["logic"] if core().logic_watch.error is not None else []),
        *(["spaces"] if Standing.DRIFTED in core().high.canaries.standings().values() else []),
        *(part for part, reasons in of_queue.items() if reasons),
    ]
    if not parts:
        return json_answer({"status": "ok"})
    told = [reason for reasons in of_queue.values() for reason in reasons]
    return json_answer({"status": "degraded", "parts": parts, **({"reasons": told} if told else {})})


def _of_queue(core: Core) -> dict[str, list[str]]:
    """What is wrong with the queue by its newest sample: reasons by part."""
    sample = core.samples.newest()
    if core.samples.is_silent(sample):
        return {"maintain": [not_sampled(sample)]}
    if not sample.is_fresh:
        # This process has just started; the first sample is on its way.
        return {}
    return {"workers": unserved(sample), "maintain": not_placed(sample)}
