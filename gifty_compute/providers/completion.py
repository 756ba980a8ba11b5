"""A language model's part of the work: what is asked of all of them alike, and when an answer is one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from gifty_compute.errors import Failure, InvalidRequest, ProviderError
from gifty_compute.providers.base import PROGRESS, QUIET, THINKING, Ask, Delta
from gifty_compute.providers.failures import bad_answer
from gifty_compute.wire.questions import in_words, unfenced

__all__ = ["CUT", "REFUSED", "STOPPED", "Prompt", "finished", "streamed"]

# Why an answer ended, in the contract's words.
STOPPED, CUT, REFUSED = "stop", "length", "content_filter"


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, in the terms that all providers have."""

    system: str | None = field(repr=False)
    """All system turns together, and what the form of the answer needs said."""
    turns: list[dict[str, str]] = field(repr=False)
    """`role` (user or assistant) and `content` of each."""
    form: Literal["text", "schema", "json", "prompt"]
    """How the answer's form is asked for: by a schema, by a JSON mode if there is one, by words alone."""
    schema: dict[str, Any] | None = field(default=None, repr=False)
    """Of the answer, where the form is `schema`."""

    @classmethod
    def of(cls, ask: Ask) -> Prompt:
        """The prompt for this payload. Raises InvalidRequest for messages that hold nobody's turn."""
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
        system.append(in_words(schema))
        return cls(_joined(system), turns, "prompt" if structured == "prompt" else "json")


def finished(ask: Ask, text: str, reason: str) -> dict[str, Any]:
    """The result of an answer that came as a whole.

    Raises ProviderError: refused, truncated (no text before the cap, or half of a JSON text), bad_answer.
    """
    if reason == REFUSED or not text.strip():
        raise _nothing(reason)
    if _wants_json(ask):
        if reason == CUT:
            raise _nothing(reason)
        text = unfenced(text)
    return {"content": text, "finish_reason": reason}


def streamed(
    events: Generator[bytes | None, None, None], read: Callable[[bytes], Delta | None]
) -> Iterator[Delta]:
    """A stream's text as it comes, then one last Delta with the finish reason, the usage and the cost.

    Events without text come as PROGRESS or THINKING. `events` are those of an Exchange; `read` says what one
    holds, None if it is the end of all. Reason and usage may be told at any time. Raises ProviderError:
    cut_off where no reason was told; where there was no
    text, what `finished` would raise. Closes `events` in any case.
    """
    has_text, reason, usage, cost = False, None, None, None
    with closing(events):
        for data in events:
            if data is None:
                yield QUIET
                continue
            if not data:
                yield PROGRESS
                continue
            piece = read(data)
            if piece is None:
                break
            reason, usage = piece.finish_reason or reason, piece.usage or usage
            cost = piece.cost_usd if piece.cost_usd is not None else cost
            has_text = has_text or bool(piece.text.strip())
            if piece.text:
                yield Delta(piece.text)
            else:
                yield THINKING if piece.is_thinking else PROGRESS
    if reason is None:
        raise bad_answer("the stream ended before the answer did", code="cut_off")
    if not has_text:
        raise _nothing(reason)
    yield Delta(finish_reason=reason, usage=usage, cost_usd=cost)


def _wants_json(ask: Ask) -> bool:
    return bool(ask.payload.get("json_mode") or ask.payload.get("json_schema"))


def _joined(system: list[str]) -> str | None:
    return "\n\n".join(system) or None


def _nothing(reason: str) -> ProviderError:
    """Why there is no answer to give, by the reason for which it ended."""
    if reason == REFUSED:
        return ProviderError("the model refused to answer", failure=Failure.FATAL, code="refused")
    if reason == CUT:
        return bad_answer("the answer was cut off by max_tokens", code="truncated")
    return bad_answer("the answer has no text")
