"""Language models: messages in, one text out. OpenAI's body on the high road, Gifty's on the low one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from gifty_compute.errors import InvalidResult
from gifty_compute.wire.body import Body, Deliverable, Many
from gifty_compute.wire.expected import Expected
from gifty_compute.wire.text import CleanText, JsonObject, Text

__all__ = ["ChatRequest", "LlmPayload", "Message", "check_llm"]

FINISH_REASONS = ("stop", "length", "content_filter")
_Stops = Annotated[Many[CleanText], Field(max_length=4)]


class Message(Body):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Text


class LlmPayload(Body):
    """What an llm task holds."""

    messages: Many[Message] = Field(min_length=1, max_length=1000)
    system_prompt: Text | None = None
    model: CleanText | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    stops: _Stops | None = None
    json_mode: bool | None = None
    json_schema: JsonObject | None = Field(default=None, description="What the answer's JSON must satisfy.")


class _TextPart(Body):
    type: Literal["text"]
    text: Text


class _ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[Many[_TextPart], Field(min_length=1, max_length=100)]
    name: CleanText | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class _JsonSchema(Body):
    name: CleanText
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None
    description: CleanText | None = None


class _ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(Body):
    include_usage: bool = False


class ChatRequest(Deliverable):
    """OpenAI's body for /v1/chat/completions, as far as all providers can follow it."""

    messages: Many[_ChatMessage] = Field(min_length=1, max_length=1000)
    model: CleanText | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    stop: CleanText | _Stops | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    response_format: _ResponseFormat | None = None
    n: Literal[1] | None = None
    user: CleanText | None = Field(default=None, description="Accepted for OpenAI's clients; not used.")

    @model_validator(mode="after")
    def _a_conversation(self) -> ChatRequest:
        if not any(message.role in ("user", "assistant") for message in self.messages):
            raise PydanticCustomError("count", "messages hold no user's turn", {"param": "messages"})
        if self.stream and self.priority == "low":
            raise PydanticCustomError(
                "wrong_priority", "stream does not go with priority low", {"param": "stream"}
            )
        return self

    def payload(self) -> dict[str, Any]:
        """The same work as a task's payload; all system turns together are its system prompt."""
        system = [message.text for message in self.messages if message.role in ("system", "developer")]
        form = self.response_format
        fields = {
            "messages": [
                {"role": message.role, "content": message.text}
                for message in self.messages
                if message.role in ("user", "assistant")
            ],
            "system_prompt": "\n\n".join(system) or None,
            "model": self.model,
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "stops": [self.stop] if isinstance(self.stop, str) else self.stop,
            "json_mode": True if form and form.type != "text" else None,
            "json_schema": form.json_schema.schema_ if form and form.json_schema else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def check_llm(payload: dict[str, Any], raw: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The result in its stored form.

    Raises InvalidResult for an answer without text, and in JSON mode for text that is no JSON object. That
    it satisfies the caller's own schema is the model's word alone.
    """
    expected.refuse_strangers(raw, {"content", "usage", "model", "provider", "finish_reason"})
    content, reason = raw.get("content"), raw.get("finish_reason", "stop")
    if not isinstance(content, str) or not content.strip():
        raise InvalidResult("the answer has no text", param="content")
    if reason not in FINISH_REASONS:
        raise InvalidResult(f"finish_reason is one of {', '.join(FINISH_REASONS)}", param="finish_reason")
    if payload.get("json_mode") or payload.get("json_schema"):
        _refuse_broken_json(content, reason)
    return {
        "content": content,
        "finish_reason": reason,
        "usage": _usage(raw.get("usage")),
        "model": _word(raw.get("model"), "model") or expected.model,
        "provider": _word(raw.get("provider"), "provider"),
    }


def _refuse_broken_json(content: str, reason: str) -> None:
    if reason == "length":
        raise InvalidResult("the JSON was cut off by max_tokens", param="content")
    try:
        value = json.loads(content)
    except ValueError as error:
        raise InvalidResult("the answer is not JSON", param="content") from error
    if not isinstance(value, dict):
        raise InvalidResult("the answer is not a JSON object", param="content")


def _usage(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    counts = value if isinstance(value, dict) else {}
    read, written = counts.get("input_tokens"), counts.get("output_tokens")
    if not (_is_count(read) and _is_count(written)):
        raise InvalidResult("usage counts input_tokens and output_tokens", param="usage")
    return {"input_tokens": read, "output_tokens": written}


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _word(value: Any, field: str) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 200):
        return value
    raise InvalidResult(f"{field} is a short text", param=field)
