"""A language model's part of the work: what is asked of all of them alike, and when an answer is one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from gifty_compute.errors import Failure, InvalidRequest, InvalidResult, ProviderError
from gifty_compute.providers.base import PROGRESS, QUIET, THINKING, Ask, Delta
from gifty_compute.providers.failures import bad_answer, coined
from gifty_compute.wire.finish import CUT, REFUSED, STOPPED, is_known, read_finish
from gifty_compute.wire.questions import in_words, unfenced
from gifty_compute.wire.size import CHARACTERS_A_TOKEN

__all__ = ["Prompt", "ending", "finished", "metered", "streamed"]

log = logging.getLogger(__name__)

_END = re.compile(r"(?:blockReason )?([A-Za-z][A-Za-z_]{0,59})")


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


def ending(ask: Ask, said: Any) -> str:
    """`stop`, `length` or `content_filter`, by the word that the provider has for the end of its answer.

    A word that is not known counts as `stop`, and the log names it. Raises ProviderError (bad_answer) for an
    end that leaves no answer.
    """
    try:
        reason = read_finish(said)
    except InvalidResult as error:
        raise bad_answer(error.message, reason=_ended_by(ask, said)) from error
    if said and not is_known(said):
        word = _tellable_end(ask, said) or "a word that may not be told"
        log.info("an answer of %s ended by %s, which is taken for stop", ask.offer.provider, word)
    return reason


def finished(ask: Ask, text: str, reason: str, said: Any = None) -> dict[str, Any]:
    """The result of an answer that came as a whole; `said` is the provider's own word for its end.

    Raises ProviderError: refused, truncated (no text before the cap, or half of a JSON text), bad_answer.
    """
    if reason == REFUSED or not text.strip():
        raise _nothing(reason, _ended_by(ask, said))
    if _wants_json(ask):
        if reason == CUT:
            raise _nothing(reason, _ended_by(ask, said))
        text = unfenced(text)
    return {"content": text, "finish_reason": reason}


def metered(ask: Ask, piece: Delta) -> Delta:
    """The piece itself, after the meter was told of it: the stream may break off at any time."""
    # Its event is one token already.
    ask.meter.hear(max(0, len(piece.text) // CHARACTERS_A_TOKEN - 1))
    ask.meter.tell(piece.usage, piece.cost_usd)
    return piece


def streamed(
    ask: Ask, events: Generator[bytes | None, None, None], read: Callable[[bytes], Delta | None]
) -> Iterator[Delta]:
    """A stream's text as it comes, then one last Delta with the finish reason, the usage and the cost.

    Events without text come as PROGRESS or THINKING. `events` are those of an Exchange; `read` says what one
    holds, None if it is the end of all. Reason and usage may be told at any time; without a reason the end of
    all is a `stop`. Raises ProviderError: cut_off where neither was told; where there was no text, what
    `finished` would raise. Closes `events` in any case.
    """
    has_text, is_over = False, False
    reason, said, usage, cost = None, None, None, None
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
                is_over = True
                break
            reason, usage = piece.finish_reason or reason, piece.usage or usage
            said = piece.said or said
            cost = piece.cost_usd if piece.cost_usd is not None else cost
            has_text = has_text or bool(piece.text.strip())
            if piece.text:
                yield Delta(piece.text)
            else:
                yield THINKING if piece.is_thinking else PROGRESS
    if reason is None and is_over:
        reason = STOPPED
    if reason is None:
        raise bad_answer("the stream ended before the answer did", code="cut_off")
    if not has_text:
        raise _nothing(reason, _ended_by(ask, said))
    yield Delta(finish_reason=reason, usage=usage, cost_usd=cost)


def _wants_json(ask: Ask) -> bool:
    return bool(ask.payload.get("json_mode") or ask.payload.get("json_schema"))


def _joined(system: list[str]) -> str | None:
    return "\n\n".join(system) or None


def _nothing(reason: str, said: str | None = None) -> ProviderError:
    """Why there is no answer to give, by the reason for which it ended."""
    if reason == REFUSED:
        message = "the model refused to answer"
        return ProviderError(message, failure=Failure.FATAL, code="refused", status=200, reason=said)
    if reason == CUT:
        return bad_answer("the answer was cut off by max_tokens", code="truncated", reason=said)
    return bad_answer("the answer has no text", reason=said)


def _ended_by(ask: Ask, said: Any) -> str | None:
    """The provider's own word for the end of its answer, for operators."""
    word = _tellable_end(ask, said)
    return f"it ended by {word}" if word else None


def _tellable_end(ask: Ask, said: Any) -> str | None:
    """The word, if it is one of an API: any other may be out of an input."""
    found = _END.fullmatch(said) if isinstance(said, str) else None
    if found is None or not (is_known(found[1]) or coined(found[1])):
        return None
    return ask.tellable(found[0])
