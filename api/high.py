"""High priority: answered at once. The same bodies with priority "low" become tasks."""

from __future__ import annotations

import base64
from typing import Any

from flask import Blueprint, Response

from api.answers import json_answer
from api.operation import operation
from api.road import ERRORS, GIVES, HEADERS, answer_headers, as_task, ask
from gifty_compute.arrays import np
from gifty_compute.providers.base import Usage
from gifty_compute.wire.answers import ClassifyAnswer, EmbeddingAnswer, RerankAnswer, ScoreAnswer
from gifty_compute.wire.classify import ClassifyRequest
from gifty_compute.wire.embedding import EmbeddingRequest
from gifty_compute.wire.rerank import RerankRequest
from gifty_compute.wire.score import ScoreRequest
from gifty_compute.wire.task import Task

__all__ = ["blueprint"]

blueprint = Blueprint("high", __name__)


@blueprint.post("/v1/embeddings")
@operation(
    scope="api",
    body=EmbeddingRequest,
    answers={200: EmbeddingAnswer, 202: Task},
    errors=ERRORS,
    headers=HEADERS,
    gives=(*GIVES, "X-Gifty-Space"),
)
def embeddings(body: EmbeddingRequest) -> Response:
    """One vector a text, in the order of the texts, all of one space."""
    if body.priority == "low":
        return as_task("embedding", body, body.payload())
    logic, answer = ask("embedding", body, body.payload())
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
            "usage": _usage(answer.usage),
        },
        headers={**answer_headers(logic, answer), "X-Gifty-Space": answer.result["space"]},
    )


@blueprint.post("/v1/rerank")
@operation(
    scope="api",
    body=RerankRequest,
    answers={200: RerankAnswer, 202: Task},
    errors=ERRORS,
    headers=HEADERS,
    gives=GIVES,
)
def rerank(body: RerankRequest) -> Response:
    """A score for each document, and the documents best first."""
    if body.priority == "low":
        return as_task("rerank", body, body.payload())
    logic, answer = ask("rerank", body, body.payload())
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
            "usage": _usage(answer.usage),
        },
        headers=answer_headers(logic, answer),
    )


@blueprint.post("/v1/classify/categories")
@operation(
    scope="api",
    body=ClassifyRequest,
    answers={200: ClassifyAnswer, 202: Task},
    errors=ERRORS,
    headers=HEADERS,
    gives=GIVES,
)
def classify(body: ClassifyRequest) -> Response:
    """Gifty's category for each of a shop's category names."""
    if body.priority == "low":
        return as_task("classify", body, body.payload())
    logic, answer = ask("classify", body, body.payload())
    return json_answer(answer.result, headers=answer_headers(logic, answer))


@blueprint.post("/v1/products/score")
@operation(
    scope="api",
    body=ScoreRequest,
    answers={200: ScoreAnswer, 202: Task},
    errors=ERRORS,
    headers=HEADERS,
    gives=GIVES,
)
def score(body: ScoreRequest) -> Response:
    """How good a gift a product is."""
    if body.priority == "low":
        return as_task("score", body, body.payload())
    logic, answer = ask("score", body, body.payload())
    scored = answer.result["scores"][0]
    about = {"model": answer.result["model"], "version": answer.result["version"]}
    return json_answer({**scored, **about}, headers=answer_headers(logic, answer))


def _usage(usage: Usage | None) -> dict[str, int] | None:
    """In OpenAI's words; null where the provider does not count."""
    if usage is None:
        return None
    return {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens + usage.output_tokens}
