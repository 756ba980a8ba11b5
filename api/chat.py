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
from gifty_compute.errors import ProviderError
from gifty_compute.logging import InContext
from gifty_compute.providers.base import QUIET, Usage
from gifty_compute.routing.router import ChatStream
from gifty_compute.wire.answers import ChatAnswer
from gifty_compute.wire.llm import ChatRequest
from gifty_compute.wire.task import Task

__all__ = ["blueprint"]

log = logging.getLogger(__name__)

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
    call = call_of("llm", body, body.payload())
    with ExitStack() as held:
        held.enter_context(rate.admitted(core(), call))
        held.callback(admission().enter(place_of(call), caller(), call.deadline.remaining))
        stream = core().high.router.stream(call)
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
                if delta is QUIET:
                    # Only who writes learns that the client has hung up.
                    yield b": the model is at work\n\n"
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
            detail = {"type": "upstream_error", "code": error.code, "message": "the provider broke off"}
            yield _event({"error": {**detail, "param": None, "request_id": self._request_id}})
            return
        if self._with_usage:
            yield _event({**self._about, "choices": [], "usage": _usage(usage)})
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._about, "choices": [choice]})


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
