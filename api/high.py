"""High priority: answered at once. The same bodies with priority "low" become tasks."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import core, operation
from api.tasks import submit
from gifty_compute.clock import Deadline
from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.routing.router import Answer
from gifty_compute.wire.answers import ClassifyAnswer, EmbeddingAnswer, RerankAnswer
from gifty_compute.wire.body import Deliverable
from gifty_compute.wire.classify import ClassifyRequest
from gifty_compute.wire.embedding import EmbeddingRequest
from gifty_compute.wire.rerank import RerankRequest
from gifty_compute.wire.task import SubmitRequest, Task

__all__ = ["blueprint"]

blueprint = Blueprint("high", __name__)
_ERRORS = (400, 401, 409, 413, 415, 422, 502, 503, 504)


@blueprint.post("/v1/embeddings")
@operation(
    scope="api",
    body=EmbeddingRequest,
    answers={200: EmbeddingAnswer, 202: Task},
    errors=_ERRORS,
    headers=("Idempotency-Key",),
)
def embeddings(body: EmbeddingRequest) -> Response:
    """One vector a text, in the order of the texts, all of one space."""
    if body.priority == "low":
        return _as_task("embedding", body, body.payload())
    logic = core().logic
    answer = _route(logic, "embedding", body, body.payload())
    vectors = answer.result["embeddings"]
    if body.encoding_format == "base64":
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        rows = list(np.ascontiguousarray(vectors, dtype=np.float32))
    return json_answer(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            "model": answer.result["model"],
            "usage": answer.usage,
        },
        headers={**_headers(logic, answer), "X-Gifty-Space": answer.result["space"]},
    )


@blueprint.post("/v1/rerank")
@operation(
    scope="api",
    body=RerankRequest,
    answers={200: RerankAnswer, 202: Task},
    errors=_ERRORS,
    headers=("Idempotency-Key",),
)
def rerank(body: RerankRequest) -> Response:
    """A score for each document, and the documents best first."""
    if body.priority == "low":
        return _as_task("rerank", body, body.payload())
    logic = core().logic
    answer = _route(logic, "rerank", body, body.payload())
    scores = answer.result["scores"]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": i, "relevance_score": scores[i]} for i in order]
    if body.return_documents:
        for ranked in results:
            ranked["document"] = body.documents[ranked["index"]]
    return json_answer(
        {
            "model": answer.result["model"],
            "kind": answer.result["kind"],
            "results": results,
            "scores": scores,
            "usage": answer.usage,
        },
        headers=_headers(logic, answer),
    )


@blueprint.post("/v1/classify/categories")
@operation(
    scope="api",
    body=ClassifyRequest,
    answers={200: ClassifyAnswer, 202: Task},
    errors=_ERRORS,
    headers=("Idempotency-Key",),
)
def classify(body: ClassifyRequest) -> Response:
    """Gifty's category for each of a shop's category names."""
    if body.priority == "low":
        return _as_task("classify", body, body.payload())
    logic = core().logic
    answer = _route(logic, "classify", body, body.payload())
    return json_answer(answer.result, headers=_headers(logic, answer))


def _route(logic: Logic, kind: str, body: Deliverable, payload: dict[str, Any]) -> Answer:
    section = logic.section(kind)
    timeout_ms = body.timeout_ms or section.timeout_ms
    if timeout_ms > section.max_timeout_ms:
        raise InvalidRequest(f"timeout_ms is at most {section.max_timeout_ms} here", param="timeout_ms")
    deadline = Deadline.after(timeout_ms / 1000, core().clock)
    return core().router.run(logic, kind, logic.place(kind, payload), deadline)


def _as_task(task_type: str, body: Deliverable, payload: dict[str, Any]) -> Response:
    request = SubmitRequest(
        task_type=task_type, payload=payload, metadata=body.metadata, callback_url=body.callback_url
    )
    return submit(request)


def _headers(logic: Logic, answer: Answer) -> dict[str, str]:
    return {
        "X-Gifty-Provider": answer.provider,
        "X-Gifty-Attempts": str(answer.attempts),
        "X-Gifty-Config": logic.version,
        "X-Gifty-Cache": "miss",
    }
