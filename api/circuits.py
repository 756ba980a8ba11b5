"""Circuits, for operators: which are open and why, and closing them by hand."""

from __future__ import annotations

import logging

from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import caller, core, operation
from gifty_compute.errors import NotFound
from gifty_compute.wire.circuit import CircuitList, Closed, CloseRequest

__all__ = ["blueprint"]

log = logging.getLogger(__name__)
blueprint = Blueprint("circuits", __name__)


@blueprint.get("/ops/circuits")
@operation(scope="ops", answers={200: CircuitList}, errors=(401,))
def list_circuits() -> Response:
    """Why providers are left alone, and for how long; circuits of other processes show within a second."""
    return json_answer({"circuits": [one.__dict__ for one in core().high.breakers.all()]})


@blueprint.post("/ops/circuits/close")
@operation(
    scope="operator", body=CloseRequest, answers={200: Closed}, errors=(400, 401, 404, 413, 415, 422, 503)
)
def close_circuit(body: CloseRequest) -> Response:
    """Lets providers be asked again at once, in all processes. A failure may open the circuit again."""
    closed = core().high.breakers.close(body.name)
    if not closed:
        raise NotFound(
            "no open circuit has this name, and no provider of this name has one; see /ops/circuits"
        )
    operator, _, _role = caller().rpartition(":")
    log.warning("an operator closed circuits by hand", extra={"operator": operator, "circuits": closed})
    return json_answer({"closed": closed})
