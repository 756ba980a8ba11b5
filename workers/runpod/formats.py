"""What a serverless job may ask, in Gifty's form, infinity's and OpenAI's, and what it is answered."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.source import DEFAULT_LOGIC
from gifty_compute.wire.body import parse
from gifty_compute.wire.embedding import EmbeddingPayload, EmbeddingRequest
from gifty_compute.wire.llm import ChatRequest, LlmPayload
from gifty_compute.wire.rerank import RerankPayload
from gifty_compute.wire.score import ScorePayload

__all__ = ["Asked", "own_name", "read"]

Answer = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Asked:
    """The work of a job as a task has it, and how its raw result is answered."""

    task_type: str
    model: str
    payload: dict[str, Any]
    answer: Answer


def own_name(model: str) -> str:
    """A model's own name, of it or an alias. Raises InvalidConfig for one that nothing here runs."""
    DEFAULT_LOGIC.engine_of(model)
    names = DEFAULT_LOGIC.file.models
    return next(name for name, section in names.items() if model in (name, *section.aliases))


def read(job: Any, served: tuple[str, ...]) -> Asked:
    """What a job's `input` asks of these models; the first is meant where it names none.

    Raises InvalidRequest naming the field; the texts are not quoted.
    """
    if not isinstance(job, dict):
        raise InvalidRequest("input must be a JSON object", param="input")
    match job:
        case {"openai_route": str(route), "openai_input": dict(body)}:
            return _openai(route, body, served)
        case {"texts": _}:
            return _texts(job, served)
        case {"docs": documents, **rest}:
            rest.pop("return_docs", None)
            return _rerank({**rest, "documents": documents}, served)
        case {"documents": _}:
            return _rerank(job, served)
        case {"products": _}:
            return _plain("score", parse(ScorePayload, job), served)
        case {"messages": _}:
            return _plain("llm", parse(LlmPayload, job), served)
        case {"input": _}:
            return _openai("/v1/embeddings", job, served)
    raise InvalidRequest(
        "input has none of texts, documents, products, messages, openai_route", param="input"
    )


def _texts(job: dict[str, Any], served: tuple[str, ...]) -> Asked:
    payload = parse(EmbeddingPayload, job).model_dump(exclude_none=True)
    model = _model("embedding", payload.get("model"), served)

    def answer(raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, "embeddings": raw["embeddings"].tolist()}

    return Asked("embedding", model, _with_type(model, payload), answer)


def _with_type(model: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The input type that the texts themselves show: our facade puts the prefixes of a space before them."""
    if "input_type" in payload:
        return payload
    space = DEFAULT_LOGIC.space(str(DEFAULT_LOGIC.model("embedding", model).space))
    for input_type, prefix in space.prefixes.items():
        if all(text.startswith(prefix) for text in payload["texts"]):
            bare = [text.removeprefix(prefix) for text in payload["texts"]]
            return {**payload, "texts": bare, "input_type": input_type}
    return {**payload, "input_type": space.default_input_type}


def _rerank(job: dict[str, Any], served: tuple[str, ...]) -> Asked:
    payload = parse(RerankPayload, job).model_dump(exclude_none=True)

    def answer(raw: dict[str, Any]) -> dict[str, Any]:
        rows = [{"index": index, "relevance_score": score} for index, score in enumerate(raw["scores"])]
        return {"model": raw["model"], "kind": raw["kind"], "results": rows, "usage": raw.get("usage")}

    return Asked("rerank", _model("rerank", payload.get("model"), served), payload, answer)


def _plain(task_type: str, payload: ScorePayload | LlmPayload, served: tuple[str, ...]) -> Asked:
    found = payload.model_dump(exclude_none=True)
    return Asked(task_type, _model(task_type, found.get("model"), served), found, lambda raw: raw)


def _openai(route: str, body: dict[str, Any], served: tuple[str, ...]) -> Asked:
    match route.rstrip("/").removeprefix("/openai"):
        case "/v1/embeddings":
            return _openai_embeddings(body, served)
        case "/v1/chat/completions":
            return _openai_chat(body, served)
    raise InvalidRequest(f"there is no route {route[:60]!r} here", param="openai_route")


def _openai_embeddings(body: dict[str, Any], served: tuple[str, ...]) -> Asked:
    request = parse(EmbeddingRequest, body, where="openai_input")
    model = _model("embedding", request.model, served)
    written = _base64 if request.encoding_format == "base64" else _floats

    def answer(raw: dict[str, Any]) -> list[dict[str, Any]]:
        rows = [
            {"object": "embedding", "index": index, "embedding": written(vector)}
            for index, vector in enumerate(raw["embeddings"])
        ]
        # RunPod hands on the first element of a list as the route's answer.
        return [{"object": "list", "data": rows, "model": raw["model"], "usage": raw["usage"]}]

    return Asked("embedding", model, _with_type(model, request.payload()), answer)


def _openai_chat(body: dict[str, Any], served: tuple[str, ...]) -> Asked:
    request = parse(ChatRequest, body, where="openai_input")
    if request.stream:
        raise InvalidRequest("this handler does not stream", param="stream")
    payload = request.payload()

    def answer(raw: dict[str, Any]) -> list[dict[str, Any]]:
        message = {"role": "assistant", "content": raw["content"]}
        usage = {
            "prompt_tokens": raw["usage"]["input_tokens"],
            "completion_tokens": raw["usage"]["output_tokens"],
            "total_tokens": sum(raw["usage"].values()),
        }
        choice = {"index": 0, "message": message, "finish_reason": raw.get("finish_reason")}
        return [{"object": "chat.completion", "model": raw["model"], "choices": [choice], "usage": usage}]

    return Asked("llm", _model("llm", payload.get("model"), served), payload, answer)


def _model(task_type: str, name: str | None, served: tuple[str, ...]) -> str:
    """The served model of this name or alias; without a name the first that does such work."""
    if name is None:
        able = [one for one in served if task_type in DEFAULT_LOGIC.file.models[one].kinds]
        if not able:
            raise InvalidRequest(f"no model here does {task_type}", param="model", code="not_served")
        return able[0]
    found = DEFAULT_LOGIC.model(task_type, name).name
    if found not in served:
        message = f"model {found!r} is not served here; served: {', '.join(served)}"
        raise InvalidRequest(message, param="model", code="not_served")
    return found


def _floats(vector: Any) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


def _base64(vector: Any) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
