"""The answers of the high-priority paths, and the error that every path can give."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = [
    "ClassifyAnswer",
    "EmbeddingAnswer",
    "ErrorAnswer",
    "HealthAnswer",
    "RerankAnswer",
]


class EmbeddingItem(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    """OpenAI's list of embeddings, in the order of the input."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage | None


class RankedDocument(BaseModel):
    index: int
    relevance_score: float
    document: str | None = None


class RerankAnswer(BaseModel):
    """Results best first; scores in the order of the documents. `kind`: cross-encoder or bi-encoder."""

    model: str
    kind: str
    results: list[RankedDocument]
    scores: list[float]
    usage: Usage | None


class Mapping(BaseModel):
    external_name: str
    internal_category_id: int | str | None
    confidence: float | None


class ClassifyAnswer(BaseModel):
    """One mapping per name, in order; a null id means: not sure enough."""

    mappings: list[Mapping]
    model: str
    kind: str | None = None


class ErrorDetail(BaseModel):
    type: str
    code: str
    message: str
    param: str | None
    request_id: str


class ErrorAnswer(BaseModel):
    """Every error of every path. On /internal the message stands in `detail`, too."""

    error: ErrorDetail
    detail: str | None = None


class HealthAnswer(BaseModel):
    status: Literal["ok", "degraded"]
    parts: list[str] | None = None
