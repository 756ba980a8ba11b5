"""Probes: alive, and ready to take work."""

from __future__ import annotations

from collections.abc import Iterator

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

    "degraded" names in `parts` what needs the operator while work goes on, and why in `reasons`: `logic`,
    when the file is not in force, since it is bad or loses something; `keys`, when the file of keys is bad;
    `spaces`, when a provider gives vectors of another space and is kept out; `workers`, when work waits and
    no worker takes it; `maintain`, when nothing maintains the queue.
    """
    if not core().database.migrated():
        raise StoreUnavailable("database: not migrated; run gifty-compute migrate", retry_after=5)
    troubles = list(_troubles(core()))
    if not troubles:
        return json_answer({"status": "ok"})
    parts = list(dict.fromkeys(part for part, _ in troubles))
    return json_answer({"status": "degraded", "parts": parts, "reasons": [reason for _, reason in troubles]})


def _troubles(core: Core) -> Iterator[tuple[str, str]]:
    """Each part that needs the operator, and why, without secrets: no credential is asked for here."""
    if core.logic_watch.trouble is not None:
        yield "logic", f"logic: {core.logic_watch.trouble}"
    if core.high.keys.error is not None:
        yield "keys", "keys: the file of keys is refused; an older version stays in force"
    if Standing.DRIFTED in core.high.canaries.standings().values():
        yield "spaces", "spaces: a provider gives vectors of another space and is kept out"
    sample = core.samples.newest()
    if core.samples.is_silent(sample):
        yield "maintain", not_sampled(sample)
    elif sample.is_fresh:
        # Until then this process has just started, and the first sample is on its way.
        yield from (("workers", reason) for reason in unserved(sample))
        yield from (("maintain", reason) for reason in not_placed(sample))
