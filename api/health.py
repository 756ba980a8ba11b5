"""Probes: alive, and ready to take work."""

from __future__ import annotations

from collections.abc import Iterator

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

    "degraded" names what needs the operator while work goes on, and why in `reasons`: `logic`, when the file
    is not what is in force, since it is bad or loses something; `spaces`, when a provider gives vectors of
    another space and is kept out.
    """
    if not core().database.migrated():
        raise StoreUnavailable("database: not migrated; run gifty-compute migrate", retry_after=5)
    reasons = [f"{part}: {why}" for part, why in _troubles() if why is not None]
    parts = list(dict.fromkeys(reason.partition(":")[0] for reason in reasons))
    return json_answer(
        {"status": "degraded", "parts": parts, "reasons": reasons} if parts else {"status": "ok"}
    )


def _troubles() -> Iterator[tuple[str, str | None]]:
    """Each part with what is wrong with it, or None. Anybody may read it: no names, values or secrets."""
    yield "logic", core().logic_watch.trouble
    drifted = Standing.DRIFTED in core().high.canaries.standings().values()
    yield "spaces", "a provider gives vectors of another space and is kept out" if drifted else None
