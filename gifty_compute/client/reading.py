"""How the answers of the contract are read: from JSON to the client's own values. No input, no output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gifty_compute.client.answers import (
    Chat,
    ChatPiece,
    Classification,
    Embeddings,
    Mapped,
    Origin,
    Ranked,
    Ranking,
    Score,
    Tokens,
    stacked,
    vectors_of,
)
from gifty_compute.client.errors import MixedSpaces, ServiceFault
from gifty_compute.wire.task import Task, TaskList, TaskView

__all__ = [
    "Headers",
    "chat",
    "classification",
    "embeddings",
    "joined_classification",
    "joined_embeddings",
    "page",
    "piece_of",
    "ranking",
    "result_of",
    "score",
    "task",
    "value_of",
]

Headers = Mapping[str, str]


def embeddings(body: Any, headers: Headers) -> Embeddings:
    rows = [row["embedding"] for row in sorted(body["data"], key=lambda row: row["index"])]
    space = headers.get("X-Gifty-Space")
    return Embeddings(vectors_of(rows), body["model"], space, _tokens(body), Origin.of(headers))


def joined_embeddings(parts: Sequence[Embeddings]) -> Embeddings:
    """The answers to portions of one list of texts as one. Raises MixedSpaces."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if (part.model, part.space) != (first.model, first.space):
            raise MixedSpaces(f"some vectors are of {first.space}, others of {part.space}: embed them again")
    tokens = [part.tokens for part in parts if part.tokens is not None]
    used = Tokens(sum(one.input for one in tokens), sum(one.output for one in tokens))
    return Embeddings(
        stacked([part.vectors for part in parts]),
        first.model,
        first.space,
        used if len(tokens) == len(parts) else None,
        _joined_origin([part.origin for part in parts]),
    )


def joined_classification(parts: Sequence[Classification]) -> Classification:
    """The answers to portions of one list of names as one."""
    if len(parts) == 1:
        return parts[0]
    mappings = [mapping for part in parts for mapping in part.mappings]
    return Classification(mappings, parts[0].model, _joined_origin([part.origin for part in parts]))


def _joined_origin(origins: list[Origin]) -> Origin:
    """All providers that answered, in order; what all answers agree in; the attempts of all together."""
    providers = dict.fromkeys(one.provider for one in origins if one.provider is not None)
    attempts = [one.attempts for one in origins if one.attempts is not None]
    return Origin(
        ", ".join(providers) or None,
        all(one.cached for one in origins),
        sum(attempts) if len(attempts) == len(origins) else None,
        origins[-1].config,
    )


def ranking(body: Any, headers: Headers) -> Ranking:
    results = [Ranked(row["index"], row["relevance_score"], row.get("document")) for row in body["results"]]
    origin = Origin.of(headers)
    return Ranking(body["scores"], results, body["model"], body["kind"], _tokens(body), origin)


def classification(body: Any, headers: Headers) -> Classification:
    mappings = [_mapped(row) for row in body["mappings"]]
    return Classification(mappings, body.get("model"), Origin.of(headers))


def score(body: Any, headers: Headers) -> Score:
    return _score(body, body, Origin.of(headers))


def chat(body: Any, headers: Headers) -> Chat:
    [choice] = body["choices"]
    content = choice["message"]["content"]
    tokens, origin = _tokens(body), Origin.of(headers)
    return Chat(content, choice["finish_reason"], body["model"], body["id"], tokens, origin)


def piece_of(chunk: Any) -> ChatPiece | None:
    """What one event of a streamed answer holds; None for one without text and reason."""
    for choice in chunk.get("choices", ()):
        text, reason = choice.get("delta", {}).get("content") or "", choice.get("finish_reason")
        if text or reason:
            return ChatPiece(text, reason)
    return None


def task(body: Any, _: Headers) -> TaskView:
    return TaskView.model_validate(body)


def page(body: Any, _: Headers) -> TaskList:
    return TaskList.model_validate(body)


def result_of(task: Task) -> Any:
    """The result of a completed task as the client's own value; as it is for types that it does not know.

    Raises ServiceFault for one that is not the contract's.
    """
    try:
        return value_of(task.task_type, task.result or {}, task.model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"task {task.id}: its result is not as the contract has it"
        raise ServiceFault(message, status=200) from error


def value_of(task_type: str, result: dict[str, Any], asked: str | None = None) -> Any:
    """A task's result as the client's own value; `asked` is its model where the result names none."""
    model = result.get("model") or asked
    match task_type:
        case "embedding":
            return Embeddings(vectors_of(result["embeddings"]), model, result.get("space"))
        case "rerank":
            scores = result["scores"]
            order = sorted(range(len(scores)), key=lambda index: -scores[index])
            results = [Ranked(index, scores[index]) for index in order]
            return Ranking(scores, results, model, result.get("kind"))
        case "classify":
            return Classification([_mapped(row) for row in result["mappings"]], model)
        case "score":
            return [_score(row, {**result, "model": model}, Origin()) for row in result["scores"]]
        case "llm":
            used = result.get("usage")
            tokens = Tokens(used["input_tokens"], used["output_tokens"]) if used else None
            origin = Origin(result.get("provider"))
            reason = result.get("finish_reason", "stop")
            return Chat(result["content"], reason, model, tokens=tokens, origin=origin)
    return result


def _mapped(row: Any) -> Mapped:
    return Mapped(row["external_name"], row["internal_category_id"], row.get("confidence"))


def _score(row: Any, about: Any, origin: Origin) -> Score:
    return Score(
        gift_score=row["gift_score"],
        reasoning=row["reasoning"],
        tags=row["tags"],
        model=about["model"],
        version=about.get("version"),
        gift_vector=row.get("gift_vector"),
        id=row.get("id"),
        origin=origin,
    )


def _tokens(body: Any) -> Tokens | None:
    used = body.get("usage")
    if not used:
        return None
    return Tokens(used["prompt_tokens"], used["total_tokens"] - used["prompt_tokens"])
