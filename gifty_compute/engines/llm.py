"""Language models at work: chat as it is asked for; classification and scoring as questions."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gifty_compute.engines.base import Job, Row
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe
from gifty_compute.wire.questions import Question, as_object, in_words, questions, together, unfenced

__all__ = ["Answer", "Chat", "Llm", "open_model"]

_MOST_TOKENS = 1000


@dataclass(frozen=True)
class Answer:
    """What a model said, why it stopped (stop, length or content_filter), and what it took."""

    content: str = field(repr=False)
    finish_reason: str
    input_tokens: int
    output_tokens: int


class Chat(Protocol):
    """A language model that answers payloads of llm tasks, many at once."""

    pass_tokens: int

    def tokens(self, payload: dict[str, Any]) -> int:
        """About how many it reads and may write for this payload."""
        ...

    def answers(self, payloads: Sequence[dict[str, Any]]) -> list[Answer]:
        """One a payload, in order. Raises EngineError, OutOfMemory."""
        ...


@dataclass(frozen=True)
class _Read:
    """An answer as a part of a result, or why there is none; and what was used in all."""

    result: dict[str, Any] | EngineError = field(repr=False)
    input_tokens: int
    output_tokens: int


class Llm:
    """Any chat model as an engine: an answer that cannot be read is asked for once more."""

    space = None
    precision = ""
    packed = False
    row_tokens = 0.0

    def __init__(self, recipe: Recipe, chat: Chat) -> None:
        self.model, self.revision, self.kinds = recipe.model, recipe.identity, recipe.kinds
        self.pass_tokens = chat.pass_tokens
        self._chat = chat

    def prepare(self, task_type: str, payload: dict[str, Any]) -> Job:
        if task_type not in ("llm", "classify", "score"):
            raise EngineError(f"{self.model} does no tasks of type {task_type!r}")
        asked = [_chat(payload)] if task_type == "llm" else questions(task_type, payload)
        rows = [Row(self._chat.tokens(question.payload), question) for question in asked]
        return Job(rows, lambda outputs: self._result(task_type, outputs))

    def samples(self) -> Sequence[Sequence[Row]]:
        """None: what an answer costs is not told by how long its question is."""
        return ()

    def forward(self, rows: Sequence[Row]) -> Sequence[_Read]:
        """One a row; a wrong answer is no failure of the pass, and is told by its own job."""
        asked: list[Question] = [row.content for row in rows]
        found = [
            _read(question, answer)
            for question, answer in zip(asked, self._answers([one.payload for one in asked]), strict=True)
        ]
        wrong = [place for place, one in enumerate(found) if isinstance(one, _Wrong)]
        again = self._answers([found[place].mended for place in wrong]) if wrong else []
        for place, answer in zip(wrong, again, strict=True):
            first, second = found[place].answer, _read(asked[place], answer)
            found[place] = _twice(self.model, first, second)
        return found

    def _answers(self, payloads: Sequence[dict[str, Any]]) -> list[Answer]:
        return self._chat.answers([_said_in_words(payload) for payload in payloads])

    def _result(self, task_type: str, outputs: Sequence[_Read]) -> dict[str, Any]:
        parts = []
        for one in outputs:
            if isinstance(one.result, EngineError):
                raise one.result
            parts.append(one.result)
        used = sum(one.input_tokens for one in outputs), sum(one.output_tokens for one in outputs)
        if task_type == "llm":
            return {**parts[0], "model": self.model, "usage": dict(zip(_USED, used, strict=True))}
        version = {"version": self.revision} if task_type == "score" else {}
        return {**together(task_type, parts), "model": self.model, **version}


_USED = ("input_tokens", "output_tokens")


@dataclass(frozen=True)
class _Wrong:
    answer: Answer
    mended: dict[str, Any]


def _chat(payload: dict[str, Any]) -> Question:
    wants_json = bool(payload.get("json_mode") or payload.get("json_schema"))

    def read(content: str) -> dict[str, Any]:
        if wants_json:
            as_object(content)
        return {"content": content}

    return Question({"max_tokens": _MOST_TOKENS, **_without_nothing(payload)}, read)


def _without_nothing(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if value is not None}


def _read(question: Question, answer: Answer) -> Any:
    """A _Read, or a _Wrong that may be mended."""
    wants_json = bool(question.payload.get("json_mode") or question.payload.get("json_schema"))
    content = unfenced(answer.content) if wants_json else answer.content
    failure = None
    if answer.finish_reason == "content_filter":
        failure = EngineError("the model refused to answer")
    elif wants_json and answer.finish_reason == "length":
        failure = EngineError("the answer was cut off by max_tokens")
    elif not content.strip():
        failure = EngineError("the answer has no text")
    if failure is not None:
        return _Read(failure, answer.input_tokens, answer.output_tokens)
    try:
        result = question.read(content)
    except ValueError as error:
        return _Wrong(answer, question.mended(answer.content, error))
    reason = {"finish_reason": answer.finish_reason} if "content" in result else {}
    return _Read({**result, **reason}, answer.input_tokens, answer.output_tokens)


def _twice(model: str, first: Answer, second: Any) -> _Read:
    last = second.answer if isinstance(second, _Wrong) else second
    used = (first.input_tokens + last.input_tokens, first.output_tokens + last.output_tokens)
    if isinstance(second, _Wrong):
        return _Read(EngineError(f"the answer of {model} was wrong twice"), *used)
    return _Read(second.result, *used)


def _said_in_words(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, its system turns as one, which says the form of the answer, too."""
    turns = [turn for turn in payload["messages"] if turn["role"] != "system"]
    system = [turn["content"] for turn in payload["messages"] if turn["role"] == "system"]
    if payload.get("system_prompt"):
        system.insert(0, payload["system_prompt"])
    if payload.get("json_mode") or payload.get("json_schema"):
        system.append(in_words(payload.get("json_schema")))
    if system:
        turns.insert(0, {"role": "system", "content": "\n\n".join(system)})
    return {**payload, "messages": turns}


def open_model(recipe: Recipe) -> Llm:
    """The engine for a server's model where the recipe has a `url`, else for one that is loaded here.

    Raises EngineError; ModuleNotFoundError for what is not installed.
    """
    name = "served" if recipe.url else "chat"
    module = importlib.import_module(f"gifty_compute.engines.{name}")
    return Llm(recipe, module.open_chat(recipe))
