"""The high road of a request: from a parsed body to the router's answer, or aside into the queue."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import rate
from api.admission import Kind, admission
from api.facade import this_request
from api.operation import caller, core, request_id
from api.tasks import submit
from gifty_compute.clock import Deadline
from gifty_compute.errors import DeadlineExceeded, InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.timeouts import Timeouts, timeouts_of
from gifty_compute.routing.call import Answer, Call
from gifty_compute.wire.body import Deliverable
from gifty_compute.wire.task import SubmitRequest

__all__ = ["ERRORS", "GIVES", "HEADERS", "answer_headers", "as_task", "ask", "call_of", "place_of"]

ERRORS = (400, 401, 403, 409, 413, 415, 422, 429, 502, 503, 504)
"""What every high-priority path may answer."""
HEADERS = ("Idempotency-Key", "X-Gifty-Hop")
"""What it looks at; the first with priority low alone, the second with priority high."""
GIVES = ("X-Gifty-Provider", "X-Gifty-Attempts", "X-Gifty-Config", "X-Gifty-Cache")
"""The headers of its answers."""
_QUICK = frozenset({"embedding", "rerank", "classify"})


def ask(kind: str, body: Deliverable, payload: dict[str, Any]) -> tuple[Logic, Answer]:
    """The router's answer, and the logic that it was found by."""
    call, timeouts = call_of(kind, body, payload)
    # Waiting for a place is part of the call's time.
    with (
        rate.admitted(core(), call),
        admission().place(place_of(call), caller(), call.deadline.remaining),
    ):
        try:
            return call.logic, core().high.router.run(call)
        except DeadlineExceeded as error:
            raise timeouts.advice(error) from error


def place_of(call: Call) -> Kind:
    """Which kind of place the call needs: what a language model does is slow, whatever it is asked for."""
    quick = call.kind in _QUICK and "llm" not in call.model.section.kinds
    return Kind.QUICK if quick else Kind.SLOW


def call_of(kind: str, body: Deliverable, payload: dict[str, Any]) -> tuple[Call, Timeouts]:
    """The call that a body makes, and the time that it has.

    Raises InvalidRequest, and NotAllowed for what its client may not ask.
    """
    if this_request().header("HTTP_IDEMPOTENCY_KEY") is not None:
        raise InvalidRequest(
            "Idempotency-Key does not go with priority high", param="Idempotency-Key", code="wrong_priority"
        )
    logic = core().logic
    this_request().logic_version = logic.version
    began = core().clock.monotonic()
    placed = logic.place(kind, payload)
    model = logic.model(kind, placed["model"])
    logic.refuse_to(caller(), kind, model.name)
    timeouts = timeouts_of(logic.section(kind), placed, body.timeout_ms)
    call = Call(
        logic=logic,
        kind=kind,
        model=model,
        payload=placed,
        deadline=Deadline(began + timeouts.total, core().clock),
        request_id=request_id(),
        client=caller(),
        never=logic.barred(caller()) | _askers(logic),
        attempt_seconds=timeouts.attempt,
        silence_seconds=timeouts.silence,
    )
    return call, timeouts


def _askers(logic: Logic) -> frozenset[str]:
    """The providers that may be a facade like this one, if it may have been one of them that asks."""
    if not this_request().header("HTTP_X_GIFTY_HOP"):
        return frozenset()
    return frozenset(
        name for name, section in logic.file.providers.items() if section.adapter == "intelligence"
    )


def as_task(task_type: str, body: Deliverable, payload: dict[str, Any]) -> Response:
    """The same work as a low-priority task: 202."""
    return submit(
        SubmitRequest(
            task_type=task_type, payload=payload, metadata=body.metadata, callback_url=body.callback_url
        )
    )


def answer_headers(logic: Logic, answer: Answer) -> dict[str, str]:
    """Who answered, how, and by which version of the logic."""
    return {
        "X-Gifty-Provider": answer.provider,
        "X-Gifty-Attempts": str(answer.attempts),
        "X-Gifty-Config": logic.version,
        "X-Gifty-Cache": "hit" if answer.cached else "miss",
    }
