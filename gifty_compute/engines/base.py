"""The engine's protocol, and how a payload of each kind is done by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from gifty_compute.arrays import np, npt
from gifty_compute.errors import EngineError

__all__ = ["Engine", "Floats", "work"]

Floats: TypeAlias = "npt.NDArray[np.float32]"


class Engine(Protocol):
    """One loaded model. Calls may come from several threads; an engine guards what is not safe."""

    model: str
    space: str
    dim: int
    kind: str
    """How it reranks and classifies: cross-encoder or bi-encoder."""

    def interruptible(self, checkpoint: Callable[[], None]) -> Engine:
        """The same model, calling the checkpoint before each pass; what that raises ends the work."""
        ...

    def embed(self, texts: Sequence[str], input_type: str) -> Floats:
        """float32 [len(texts), dim], one unit vector a text, in order; input_type is query or passage."""
        ...

    def tokens(self, texts: Sequence[str], input_type: str) -> int:
        """How many tokens the model reads for these texts, prefixes and special ones included."""
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
        input_type = payload.get("input_type") or "passage"
        vectors = engine.embed(payload["texts"], input_type)
        result: dict[str, Any] = {"embeddings": vectors, "space": engine.space, "dim": engine.dim}
        result["usage"] = _usage(engine.tokens(payload["texts"], input_type))
        if payload.get("ids") is not None:
            result["ids"] = payload["ids"]
    elif task_type == "rerank":
        query, documents = payload["query"], payload["documents"]
        result = {"scores": engine.rerank(query, documents), "kind": engine.kind}
        result["usage"] = _usage(engine.tokens(documents, "passage") + engine.tokens([query], "query"))
    elif task_type == "classify":
        result = {"mappings": _mappings(engine, payload), "kind": engine.kind}
    else:
        raise EngineError(f"no engine does tasks of type {task_type!r}")
    return {**result, "model": engine.model}


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


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
