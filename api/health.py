"""Probes: alive, and ready to take work."""

from __future__ import annotations

from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import core, operation
from gifty_compute.errors import StoreUnavailable
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

    "degraded" names what needs the operator while work goes on: `logic` or `keys`, when that file is bad and
    an older version stays in force; `spaces`, when a provider gives vectors of another space and is kept out.
    """
    if not core().database.migrated():
        raise StoreUnavailable("database: not migrated; run gifty-compute migrate", retry_after=5)
    parts = [
        *(["logic"] if core().logic_watch.error is not None else []),
        *(["keys"] if core().high.keys.error is not None else []),
        *(["spaces"] if Standing.DRIFTED in core().high.canaries.standings().values() else []),
    ]
    return json_answer({"status": "degraded", "parts": parts} if parts else {"status": "ok"})
