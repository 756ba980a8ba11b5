"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gifty_compute.errors import Failure, InvalidRequest, ProviderError
from gifty_compute.providers.base import Ask, Delta, Reply, Usage
from gifty_compute.providers.completion import Prompt, ending, finished, metered, streamed
from gifty_compute.providers.exchange import Exchange, as_object, event_object
from gifty_compute.providers.failures import bad_answer, not_served
from gifty_compute.providers.foreign import count, dig
from gifty_compute.providers.rejection import Rejection
from gifty_compute.transport.base import HttpResponse, Transport

__all__ = ["AnthropicProvider"]

_VERSION = "2023-06-01"
# The status that each type of error has outside a stream.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# A 400 or 429 that is no fault of the request's. Older ones are told by their text alone.
_SPENT = "spend_limit_reached"
_SPENT_TEXTS = ("You have reached your specified API usage limits", "Your credit balance is too low")
_DISABLED = "organization_on_hold"
# The deltas of a model's thinking.
_THOUGHTS = frozenset({"thinking_delta", "signature_delta"})
# `minimal` is the least that Anthropic knows; `none` switches thinking off instead.
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}


class AnthropicProvider:
    """Language models; JSON by a schema of the answer, or by words."""

    def __init__(self, transport: Transport) -> None:
        self._exchange = Exchange(transport)

    def run(self, ask: Ask) -> Reply:
        if ask.offer.ask_as != "llm":
            raise not_served(ask)
        response = self._exchange.send(ask, "/v1/messages", _request(ask), headers=_headers(ask))
        if response.status != 200:
            raise _error(ask, response)
        answer = as_object(response)
        ask.meter.tell(_usage(answer.get("usage")))
        return _reply(ask, answer)

    def stream(self, ask: Ask) -> Iterator[Delta]:
        request = {**_request(ask), "stream": True}
        events = self._exchange.events(
            ask, "/v1/messages", request, headers=_headers(ask), judge=partial(_error, ask)
        )
        return streamed(ask, events, _Reader(ask))


@dataclass
class _Reader:
    """Reads the events of one stream, and adds up what they say was used."""

    ask: Ask
    used: dict[str, Any] = field(default_factory=dict)

    def __call__(self, data: bytes) -> Delta | None:
        event = event_object(data)
        match event.get("type"):
            case "message_start":
                self.used = _later(self.used, dig(event, "message", "usage"))
                if (begun := _usage(self.used)) is not None:
                    self.ask.meter.read(begun.input_tokens)
            case "content_block_delta":
                thought = str(dig(event, "delta", "type")) in _THOUGHTS
                text = _text(event.get("delta"), "text_delta")
                return metered(self.ask, Delta(text, is_thinking=thought))
            case "message_delta":
                self.used = _later(self.used, event.get("usage"))
                self.ask.meter.tell(_usage(self.used))
                said = dig(event, "delta", "stop_reason")
                reason = ending(self.ask, said) if said else None
                return Delta("", reason, _usage(self.used), said=said)
            case "message_stop":
                return None
            case "error":
                raise _judge(_inside(event, self.ask))
        return Delta()


def _headers(ask: Ask) -> Mapping[str, str]:
    return {
        "x-api-key": ask.site.key,
        "anthropic-version": ask.offer.section.api_version or _VERSION,
    }


def _request(ask: Ask) -> dict[str, Any]:
    prompt, payload, flags = Prompt.of(ask), ask.payload, ask.offer.flags
    temperature = payload.get("temperature") if flags.sampling else None
    if temperature is not None and temperature > 1:
        raise InvalidRequest(f"temperature is at most 1 for {ask.offer.provider}", param="temperature")
    output: dict[str, Any] = {}
    if flags.effort in _EFFORTS:
        output["effort"] = _EFFORTS[flags.effort]
    if prompt.form == "schema":
        output["format"] = {"type": "json_schema", "schema": prompt.schema}
    fields = {
        "model": ask.offer.model_id,
        "max_tokens": payload["max_tokens"],
        "system": prompt.system,
        "messages": prompt.turns,
        "temperature": temperature,
        "stop_sequences": payload.get("stops"),
        "thinking": {"type": "disabled"} if flags.effort == "none" else None,
        "output_config": output or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _reply(ask: Ask, body: dict[str, Any]) -> Reply:
    if body.get("type") == "error":
        raise _judge(_inside(body, ask))
    blocks, said = body.get("content"), body.get("stop_reason")
    if not isinstance(blocks, list):
        raise bad_answer("answered without a finished message")
    text = "".join(_text(block, "text") for block in blocks)
    return Reply(finished(ask, text, ending(ask, said), said), _usage(body.get("usage")))


def _text(block: Any, kind: str) -> str:
    """The text of a block of this type; empty for the others, of which thinking is one."""
    if dig(block, "type") != kind:
        return ""
    text = dig(block, "text")
    if not isinstance(text, str):
        raise bad_answer("answered a text block without text")
    return text


def _later(used: dict[str, Any], news: Any) -> dict[str, Any]:
    """The counts so far: they are cumulative, and null where nothing has changed."""
    known = news.items() if isinstance(news, dict) else ()
    return used | {name: value for name, value in known if value is not None}


def _usage(used: Any) -> Usage | None:
    """What was read from the cache or written to it was read all the same."""
    plain, written = count(dig(used, "input_tokens")), count(dig(used, "output_tokens"))
    if plain is None or written is None:
        return None
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    return Usage(plain + sum(count(dig(used, name)) or 0 for name in cached), written)


def _error(ask: Ask, response: HttpResponse) -> ProviderError:
    return _judge(Rejection.of(response, ask))


def _inside(answer: dict[str, Any], ask: Ask) -> Rejection:
    """The error that came with status 200: in a stream there is no other way."""
    rejection = Rejection.inside(answer.get("error"), ask)
    return replace(rejection, status=_STATUSES.get(str(rejection.says("type")), rejection.status))


def _judge(rejection: Rejection) -> ProviderError:
    detail = rejection.says("details", "error_code") or ""
    if detail.endswith(_SPENT) or rejection.begins(*_SPENT_TEXTS):
        return rejection.become(Failure.CONFIG, _SPENT)
    if detail == _DISABLED:
        return rejection.become(Failure.CONFIG, detail)
    return rejection.become(code=rejection.code("details", "error_code"))
