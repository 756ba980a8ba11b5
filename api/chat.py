"""Chat, in OpenAI's form: a whole answer, or server-sent events as they come."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
from flask import Blueprint, Response

from api import rate
from api.admission import admission
from api.answers import json_answer
from api.operation import caller, core, operation, request_id
from api.places import Leave
from api.road import ERRORS, GIVES, HEADERS, answer_headers, as_task, ask, call_of, place_of
from gifty_compute.errors import DeadlineExceeded, ProviderError
from gifty_compute.logging import InContext
from gifty_compute.providers.base import Usage
from gifty_compute.routing.router import ChatStream
from gifty_compute.wire.answers import ChatAnswer
from gifty_compute.wire.llm import ChatRequest
from gifty_compute.wire.task import Task

__all__ = ["blueprint"]

log = logging.getLogger(__name__)

# A comment of server-sent events, which clients pass over. A silent stream says so once a second: with it
# something is written every two seconds at least.
_KEEP_ALIVE, _KEEP_ALIVE_SECONDS = b": keep-alive\n\n", 0.9
# By code: what this service says where it ended a stream; empty where the error's own words say it.
_ENDED_BY_US = {
    "timeout": "",
    "stream_too_long": "",
    "response_too_large": "the provider sent more than is read of one answer",
}

blueprint = Blueprint("chat", __name__)


@blueprint.post("/v1/chat/completions")
@operation(
    scope="api",
    body=ChatRequest,
    answers={200: ChatAnswer, 202: Task},
    errors=ERRORS,
    headers=HEADERS,
    gives=GIVES,
    text="text/event-stream",
)
def chat(body: ChatRequest) -> Response:
    """A language model's answer; with `stream` as server-sent events of OpenAI's chunks."""
    if body.priority == "low":
        return as_task("llm", body, body.payload())
    if body.stream:
        return _streamed(body)
    logic, answer = ask("llm", body, body.payload())
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.result["content"]},
        "finish_reason": answer.result["finish_reason"],
    }
    about = _about("chat.completion", answer.result["model"])
    value = {**about, "choices": [choice], "usage": _usage(answer.usage)}
    return json_answer(value, headers=answer_headers(logic, answer))


def _streamed(body: ChatRequest) -> Response:
    call, timeouts = call_of("llm", body, body.payload())
    with ExitStack() as held:
        held.enter_context(rate.admitted(core(), call))
        held.callback(admission().enter(place_of(call), caller(), call.deadline.remaining))
        try:
            stream = core().high.router.stream(call)
        except DeadlineExceeded as error:
            raise timeouts.advice(error) from error
        leave = held.pop_all().close
    headers = {
        "X-Gifty-Provider": stream.provider,
        "X-Gifty-Attempts": str(stream.attempts),
        "X-Gifty-Config": call.logic.version,
        "X-Gifty-Cache": "miss",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    about = _about("chat.completion.chunk", stream.model)
    events = _Events(stream, about, leave, with_usage=with_usage, request_id=request_id())
    return Response(events, headers=headers, mimetype="text/event-stream")


class _Events:
    """The body of a streamed answer; the server closes it at its end, and when the client hangs up."""

    def __init__(
        self,
        stream: ChatStream,
        about: dict[str, Any],
        leave: Leave,
        *,
        with_usage: bool,
        request_id: str,
    ) -> None:
        self._stream, self._about = stream, about
        self._clock = core().clock
        self._spoke = self._clock.monotonic()
        self._with_usage, self._request_id = with_usage, request_id
        self._leave: Leave | None = leave
        self._events = InContext(self._make())

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Ends the exchange with the provider and gives the place back; twice does no harm."""
        self._events.close()
        close = getattr(self._stream.deltas, "close", None)
        if close is not None:
            close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def _make(self) -> Generator[bytes, None, None]:
        usage: Usage | None = None
        yield self._chunk({"role": "assistant", "content": ""}, None)
        try:
            for delta in self._stream.deltas:
                if not (delta.text or delta.finish_reason) and self._is_time_to_speak():
                    # A proxy ends a silent connection, and only a write shows that the client hung up.
                    self._spoke = self._clock.monotonic()
                    yield _KEEP_ALIVE
                usage = delta.usage or usage
                if delta.text:
                    yield self._chunk({"content": delta.text}, None)
                if delta.finish_reason:
                    yield self._chunk({}, delta.finish_reason)
        except ProviderError as error:
            # Too late for another provider and for a status: the client learns it where it reads.
            log.warning(
                "a streamed answer breaks off: %s", error.code, extra={"provider": self._stream.provider}
            )
            yield _event({"error": {**_told(error), "param": None, "request_id": self._request_id}})
            return
        if self._with_usage:
            yield _event({**self._about, "choices": [], "usage": _usage(usage)})
        yield b"data: [DONE]\n\n"

    def _is_time_to_speak(self) -> bool:
        return self._clock.monotonic() - self._spoke >= _KEEP_ALIVE_SECONDS

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        self._spoke = self._clock.monotonic()
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._about, "choices": [choice]})


def _told(error: ProviderError) -> dict[str, str]:
    """Type, code and message of an error in the middle of a stream: what ended it, this service or the
    provider."""
    if error.code in _ENDED_BY_US:
        message = f"this service ended the stream: {_ENDED_BY_US[error.code] or error.message}"
        return {"type": "timeout_error", "code": error.code, "message": message}
    message = "the provider broke off in the middle of its answer"
    return {"type": "upstream_error", "code": error.code, "message": message}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _about(kind: str, model: str) -> dict[str, Any]:
    created = int(core().clock.now().timestamp())
    return {"id": f"chatcmpl-{request_id()}", "object": kind, "created": created, "model": model}


def _usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
