"""The answers of the high-priority paths, and the error that every path can give."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

__all__ = [
    "ChatAnswer",
    "ChatUsage",
    "ClassifyAnswer",
    "EmbeddingAnswer",
    "ErrorAnswer",
    "HealthAnswer",
    "RerankAnswer",
    "ScoreAnswer",
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


class ScoreAnswer(BaseModel):
    """How good a gift the product is, from 0 to 10; `gift_vector` holds Gifty's ten axes."""

    gift_score: float
    reasoning: str
    tags: list[str]
    gift_vector: dict[str, Any] | None = None
    model: str
    version: str | None


class ChatMessage(BaseModel):
    role: Literal["assistant"]
    content: str


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length", "content_filter"]


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(BaseModel):
    """OpenAI's chat completion, with one choice."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage | None


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
    reasons: list[str] | None = None
