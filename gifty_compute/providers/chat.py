"""Chat in OpenAI's form: a payload as a request, an answer or a piece of a stream as ours."""

from __future__ import annotations

from typing import Any

from gifty_compute.providers.base import Ask, Delta, Reply, Usage
from gifty_compute.providers.completion import Prompt, ending, finished
from gifty_compute.providers.dialects import PLAIN, Dialect
from gifty_compute.providers.failures import bad_answer
from gifty_compute.providers.foreign import amount, count, dig
from gifty_compute.providers.rejection import Rejection
from gifty_compute.wire.finish import REFUSED

__all__ = ["chat_piece", "chat_reply", "chat_request", "cost_of", "refuse_error", "usage_of"]

# Where servers of this form put the model's thinking: DeepSeek and vLLM, Groq, OpenRouter.
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")


def chat_request(ask: Ask, dialect: Dialect = PLAIN) -> dict[str, Any]:
    """The body for /chat/completions."""
    prompt, payload, flags = Prompt.of(ask), ask.payload, ask.offer.flags
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    fields = {
        "model": ask.offer.model_id,
        "messages": system + prompt.turns,
        dialect.cap: payload.get("max_tokens"),
        "temperature": payload.get("temperature") if flags.sampling else None,
        "stop": payload.get("stops"),
        "response_format": _response_format(prompt),
        **(dialect.effort(flags.effort) if flags.effort else {}),
    }
    return {name: value for name, value in fields.items() if value is not None}


def chat_reply(ask: Ask, body: dict[str, Any], dialect: Dialect = PLAIN) -> Reply:
    """The reply that a whole answer holds. Raises ProviderError where it holds none."""
    refuse_error(ask, body, dialect)
    choice = _choice(body)
    text = dig(choice, "message", "content")
    if not (text is None or isinstance(text, str)):
        raise bad_answer("answered without a finished message")
    said = choice.get("finish_reason")
    reason = REFUSED if text is None and dig(choice, "message", "refusal") else ending(ask, said)
    return Reply(finished(ask, text or "", reason, said), usage_of(body), cost_of(ask, body))


def chat_piece(ask: Ask, chunk: dict[str, Any], dialect: Dialect = PLAIN) -> Delta:
    """What one chunk of a stream holds; often only a part of text, reason, usage and cost."""
    refuse_error(ask, chunk, dialect)
    choice = _choice(chunk)
    text = dig(choice, "delta", "content")
    if not (text is None or isinstance(text, str)):
        raise bad_answer("streamed something that is no text")
    said = choice.get("finish_reason")
    # Some servers send "" with every piece: it is no end.
    reason = ending(ask, said) if said not in (None, "") else None
    thought = any(dig(choice, "delta", name) for name in _THOUGHTS)
    return Delta(text or "", reason, usage_of(chunk), cost_of(ask, chunk), said, is_thinking=thought)


def refuse_error(ask: Ask, body: dict[str, Any], dialect: Dialect = PLAIN) -> None:
    """Raises ProviderError for an answer, or a part of one, that tells an error in place of its content."""
    choice = _choice(body)
    error = body.get("error") or choice.get("error") or dig(body, "x_groq", "error")
    if error or choice.get("finish_reason") == "error":
        raise dialect.error(Rejection.inside(error or {}, ask))


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The tokens of an answer; None where it does not count them."""
    for used in (body.get("usage"), dig(body, "x_groq", "usage")):
        read = count(dig(used, "prompt_tokens"))
        if read is not None:
            return Usage(read, count(dig(used, "completion_tokens")) or 0)
    read = count(dig(body, "usage", "total_tokens"))
    return None if read is None else Usage(read)


def cost_of(ask: Ask, body: dict[str, Any]) -> float | None:
    """US dollars, where the provider is one whose answers say what they cost."""
    return amount(dig(body, "usage", "cost")) if ask.offer.section.reports_cost else None


def _response_format(prompt: Prompt) -> dict[str, Any] | None:
    if prompt.form == "schema":
        # Not `strict`: it takes but a part of JSON Schema. The answer is checked in any case.
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": prompt.schema}}
    return {"type": "json_object"} if prompt.form == "json" else None


def _choice(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice; an empty one where there is none."""
    choice = dig(body, "choices", 0)
    return choice if isinstance(choice, dict) else {}
