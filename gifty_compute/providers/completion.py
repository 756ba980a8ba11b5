"""A language model's part of the work: what is asked of all of them alike, and when an answer is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gifty_compute.errors import Failure, InvalidRequest, ProviderError
from gifty_compute.providers.base import Ask, Delta, Usage
from gifty_compute.providers.failures import bad_answer

__all__ = ["CUT", "REFUSED", "STOPPED", "Prompt", "finished", "total", "whole"]

# Why an answer ended, in the contract's words.
STOPPED, CUT, REFUSED = "stop", "length", "content_filter"

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, in the terms that all providers have."""

    system: str | None
    """All system turns together, and what the form of the answer needs said."""
    turns: list[dict[str, str]]
    """`role` (user or assistant) and `content` of each."""
    form: Literal["text", "schema", "json", "prompt"]
    """How the answer's form is asked for: by a schema, by a JSON mode, by words alone."""
    schema: dict[str, Any] | None = None
    """Of the answer, where the form is `schema`."""

    @classmethod
    def of(cls, ask: Ask, *, json_mode: bool = True) -> Prompt:
        """The prompt for this payload; `json_mode` says whether the provider has one without a schema.

        Raises InvalidRequest for messages that hold nobody's turn.
        """
        messages = ask.payload["messages"]
        turns = [message for message in messages if message["role"] != "system"]
        if not turns:
            raise InvalidRequest("messages hold no user's turn", param="messages", code="count")
        system = [message["content"] for message in messages if message["role"] == "system"]
        if ask.payload.get("system_prompt"):
            system.insert(0, ask.payload["system_prompt"])
        schema = ask.payload.get("json_schema")
        structured = ask.offer.flags.structured
        if not _wants_json(ask):
            return cls(_joined(system), turns, "text")
        if schema and structured == "json_schema":
            return cls(_joined(system), turns, "schema", schema)
        # Said in words, too: OpenAI and Groq refuse JSON mode where no message speaks of JSON.
        system.append(_in_words(schema))
        return cls(_joined(system), turns, "prompt" if structured == "prompt" or not json_mode else "json")


def finished(ask: Ask, text: str, reason: str) -> dict[str, Any]:
    """The result of an answer that came as a whole.

    Raises ProviderError: refused, truncated (no text before the cap, or half of a JSON text), bad_answer.
    """
    if reason == REFUSED:
        raise _refused()
    _require_text(text, reason)
    if _wants_json(ask):
        if reason == CUT:
            raise _truncated()
        fenced = _FENCED.fullmatch(text)
        text = fenced[1] if fenced else text
    return {"content": text, "finish_reason": reason}


def whole(pieces: Iterator[Delta]) -> Iterator[Delta]:
    """A stream's text as it comes, then one last Delta with the finish reason and the usage.

    `pieces` may tell these at any time. Raises ProviderError: cut_off where no reason was told; where there
    was no text, what `finished` would raise. Closes `pieces` in any case.
    """
    text, reason, usage = "", None, None
    with closing(pieces):  # type: ignore[type-var]
        for piece in pieces:
            reason, usage = piece.finish_reason or reason, piece.usage or usage
            if piece.text:
                text = text.strip() or piece.text
                yield Delta(piece.text)
    if reason is None:
        raise bad_answer("the stream ended before the answer did", code="cut_off")
    if reason == REFUSED and not text.strip():
        raise _refused()
    _require_text(text, reason)
    yield Delta(finish_reason=reason, usage=usage)


def total(usages: list[Usage | None]) -> Usage | None:
    """All of them together; None where one is not known."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    return Usage(sum(usage.input_tokens for usage in known), sum(usage.output_tokens for usage in known))


def _wants_json(ask: Ask) -> bool:
    return bool(ask.payload.get("json_mode") or ask.payload.get("json_schema"))


def _joined(system: list[str]) -> str | None:
    return "\n\n".join(system) or None


def _in_words(schema: dict[str, Any] | None) -> str:
    said = "Answer with one JSON object and nothing else: no words before or after it, no code fence."
    return f"{said} It must satisfy this JSON Schema: {orjson.dumps(schema).decode()}" if schema else said


def _require_text(text: str, reason: str) -> None:
    if not text.strip():
        raise _truncated() if reason == CUT else bad_answer("the answer has no text")


def _truncated() -> ProviderError:
    return bad_answer("the answer was cut off by max_tokens", code="truncated")


def _refused() -> ProviderError:
    return ProviderError("the model refused to answer", failure=Failure.FATAL, code="refused")
