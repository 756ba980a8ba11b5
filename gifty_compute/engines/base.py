"""The engine's protocol, and how a payload of each kind is done by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gifty_compute.errors import EngineError

__all__ = ["Engine", "Floats", "work"]

Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """One loaded model. Calls may come from several threads; an engine guards what is not safe."""

    model: str
    space: str
    dim: int
    kind: str
    """How it reranks and classifies: cross-encoder or bi-encoder."""

    def embed(self, texts: Sequence[str], input_type: str) -> Floats:
        """float32 [len(texts), dim], one unit vector a text, in order; input_type is query or passage."""
        ...

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in the order of the documents; higher is better."""
        ...

    def classify(self, names: Sequence[str], labels: Sequence[str]) -> list[tuple[int, float]]:
        """For each name the index of its label and a confidence from 0 to 1."""
        ...


def work(engine: Engine, task_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The raw result of this payload, as the contract shapes it for the task type.

    Raises EngineError for a type that no engine does.
    """
    if task_type == "embedding":
        vectors = engine.embed(payload["texts"], payload.get("input_type") or "passage")
        result = {"embeddings": vectors, "space": engine.space, "dim": engine.dim}
        if payload.get("ids") is not None:
            result["ids"] = payload["ids"]
    elif task_type == "rerank":
        result = {"scores": engine.rerank(payload["query"], payload["documents"]), "kind": engine.kind}
    elif task_type == "classify":
        result = {"mappings": _mappings(engine, payload), "kind": engine.kind}
    else:
        raise EngineError(f"no engine does tasks of type {task_type!r}")
    return {**result, "model": engine.model}


def _mappings(engine: Engine, payload: dict[str, Any]) -> list[dict[str, Any]]:
    names, categories = payload["external_names"], payload["internal_categories"]
    chosen = engine.classify(names, [category["name"] for category in categories])
    return [
        {
            "external_name": name,
            "internal_category_id": categories[index]["id"],
            "confidence": round(confidence, 4),
        }
        for name, (index, confidence) in zip(names, chosen, strict=True)
    ]
