"""Encoders at work: how embedding, reranking and classification are made of rows.

A bi-encoder makes a vector of each text, and compares vectors; a cross-encoder reads two texts together and
gives one number, its logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gifty_compute.arrays import np, npt
from gifty_compute.engines.base import Job, Row
from gifty_compute.errors import EngineError

__all__ = ["BiEncoder", "CrossEncoder", "bi_encoder_job", "cross_encoder_job"]

# Sharpness of the softmax over labels. E5 was trained at a temperature of 0.01 (Wang et al., "Multilingual E5
# Text Embeddings", 2024), which is why its cosines crowd between 0.7 and 1.
_TEMPERATURE = 0.01


class BiEncoder(Protocol):
    """Its outputs are unit vectors, float32 [dim]."""

    model: str
    space: str
    dim: int

    def rows(self, texts: Sequence[str], input_type: str) -> list[Row]:
        """Each text with the prefix of its type (query or passage), tokenised."""
        ...


class CrossEncoder(Protocol):
    """Its outputs are logits."""

    model: str

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Each pair, tokenised."""
        ...


def bi_encoder_job(encoder: BiEncoder, task_type: str, payload: dict[str, Any]) -> Job:
    """Raises EngineError for a type that is not made of vectors."""
    match task_type:
        case "embedding":
            return _embedding(encoder, payload)
        case "rerank":
            return _cosines(encoder, payload)
        case "classify":
            return _nearest(encoder, payload)
    raise _cannot(encoder.model, task_type)


def cross_encoder_job(encoder: CrossEncoder, task_type: str, payload: dict[str, Any]) -> Job:
    """Raises EngineError for a type that is not made of pairs."""
    match task_type:
        case "rerank":
            return _relevance(encoder, payload)
        case "classify":
            return _likeliest(encoder, payload)
    raise _cannot(encoder.model, task_type)


def _embedding(encoder: BiEncoder, payload: dict[str, Any]) -> Job:
    rows = encoder.rows(payload["texts"], payload.get("input_type") or "passage")
    ids = {} if payload.get("ids") is None else {"ids": payload["ids"]}

    def finish(outputs: Sequence[Any]) -> dict[str, Any]:
        vectors = _stacked(outputs, encoder)
        said = {"space": encoder.space, "dim": encoder.dim, "model": encoder.model}
        return {"embeddings": vectors, **said, **ids, "usage": _usage(rows)}

    return Job(rows, finish)


def _cosines(encoder: BiEncoder, payload: dict[str, Any]) -> Job:
    rows = encoder.rows([payload["query"]], "query") + encoder.rows(payload["documents"], "passage")

    def finish(outputs: Sequence[Any]) -> dict[str, Any]:
        vectors = _stacked(outputs, encoder)
        scores = [float(cosine) for cosine in vectors[1:] @ vectors[0]]
        return {"scores": scores, "kind": "bi-encoder", "model": encoder.model, "usage": _usage(rows)}

    return Job(rows, finish)


def _nearest(encoder: BiEncoder, payload: dict[str, Any]) -> Job:
    """The nearest label of each name, with its share in a softmax over all labels as confidence."""
    names, categories = payload["external_names"], payload["internal_categories"]
    # Like is compared with like: both sides as queries.
    rows = encoder.rows([*names, *(category["name"] for category in categories)], "query")

    def finish(outputs: Sequence[Any]) -> dict[str, Any]:
        vectors = _stacked(outputs, encoder)
        cosines = vectors[: len(names)] @ vectors[len(names) :].T
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _TEMPERATURE)
        shares = weights / weights.sum(axis=1, keepdims=True)
        return _mapped(names, categories, shares, kind="bi-encoder", model=encoder.model)

    return Job(rows, finish)


def _relevance(encoder: CrossEncoder, payload: dict[str, Any]) -> Job:
    rows = encoder.pairs([(payload["query"], document) for document in payload["documents"]])

    def finish(outputs: Sequence[Any]) -> dict[str, Any]:
        scores = [float(score) for score in _sigmoid(outputs, encoder.model)]
        return {"scores": scores, "kind": "cross-encoder", "model": encoder.model, "usage": _usage(rows)}

    return Job(rows, finish)


def _likeliest(encoder: CrossEncoder, payload: dict[str, Any]) -> Job:
    """Each name beside each label; the best label's own probability is the confidence."""
    names, categories = payload["external_names"], payload["internal_categories"]
    rows = encoder.pairs([(name, category["name"]) for name in names for category in categories])

    def finish(outputs: Sequence[Any]) -> dict[str, Any]:
        grid = _sigmoid(outputs, encoder.model).reshape(len(names), len(categories))
        return _mapped(names, categories, grid, kind="cross-encoder", model=encoder.model)

    return Job(rows, finish)


def _stacked(outputs: Sequence[Any], encoder: BiEncoder) -> npt.NDArray[np.float32]:
    """The vectors as an array [rows, dim]. Raises EngineError for one that is not finite."""
    vectors = np.asarray(outputs, dtype=np.float32).reshape(len(outputs), encoder.dim)
    if not np.isfinite(vectors).all():
        raise EngineError(f"{encoder.model} gave a vector that is not finite")
    return vectors


def _sigmoid(logits: Sequence[Any], model: str) -> npt.NDArray[np.float64]:
    """In float64: in float32 everything above 17 is 1, and the order of good documents is lost."""
    wide = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise EngineError(f"{model} gave a score that is not finite")
    # Of -|x|, so that nothing overflows.
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1 / (1 + small), small / (1 + small))


def _mapped(
    names: Sequence[str],
    categories: Sequence[dict[str, Any]],
    grid: npt.NDArray[Any],
    *,
    kind: str,
    model: str,
) -> dict[str, Any]:
    """Each name with its best label: a row of the grid is a name, a column a label."""
    mappings = [
        {
            "external_name": name,
            "internal_category_id": categories[label]["id"],
            "confidence": round(float(row[label]), 4),
        }
        for name, label, row in zip(names, grid.argmax(axis=1), grid, strict=True)
    ]
    return {"mappings": mappings, "kind": kind, "model": model}


def _usage(rows: Sequence[Row]) -> dict[str, int]:
    tokens = sum(row.tokens for row in rows)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _cannot(model: str, task_type: str) -> EngineError:
    return EngineError(f"{model} does no tasks of type {task_type!r}")
