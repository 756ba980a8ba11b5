"""An operation: one decorator that lets in, parses, and documents; so these three cannot differ."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_origin

import orjson
from flask import Response, current_app, g, request
from pydantic import BaseModel

from api.auth import Guard, Scope
from gifty_compute.core import Core
from gifty_compute.errors import InvalidRequest, MalformedBody, TooLarge, UnsupportedMedia
from gifty_compute.wire.body import parse

__all__ = ["Operation", "caller", "core", "operation", "operations", "request_id"]

View = Callable[..., Response]
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True)
class Operation:
    """What the OpenAPI document says of a view."""

    scope: Scope | None
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answers: Mapping[int, type[BaseModel] | None]
    errors: tuple[int, ...]
    headers: tuple[str, ...] = field(default=())
    text: str | None = None
    """The media type of a 200 that is not JSON, or not always."""


operations: dict[Callable[..., Any], Operation] = {}
"""Every documented view of the program."""


def operation(
    *,
    scope: Scope | None,
    answers: Mapping[int, type[BaseModel] | None],
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    errors: tuple[int, ...] = (),
    headers: tuple[str, ...] = (),
    text: str | None = None,
) -> Callable[[View], View]:
    """Makes a view that is called with `body` and `query` parsed, as far as it has them."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def enter(**path: str) -> Response:
            clock = core().clock
            began = clock.monotonic()
            if scope is not None:
                guard: Guard = current_app.extensions["guard"]
                g.caller = guard.name(scope, request.headers)
            parsed: dict[str, Any] = {}
            if query is not None:
                parsed["query"] = _read_query(query)
            if body is not None:
                parsed["body"] = parse(body, _read_json())
            answer = view(**path, **parsed)
            answer.headers["Server-Timing"] = f"app;dur={(clock.monotonic() - began) * 1000:.1f}"
            return answer

        operations[enter] = Operation(scope, body, query, answers, errors, headers, text)
        return enter

    return decorate


def core() -> Core:
    """The core of the application that is answering."""
    found: Core = current_app.extensions["core"]
    return found


def caller() -> str:
    """The name that the credential of this request goes by."""
    name: str = g.caller
    return name


def request_id() -> str:
    """The caller's X-Request-Id, or one made for this request."""
    if "request_id" not in g:
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
    name: str = g.request_id
    return name


def _read_query(model: type[BaseModel]) -> BaseModel:
    known = {info.alias or name: info for name, info in model.model_fields.items()}
    values: dict[str, Any] = {}
    for name, sent in request.args.lists():
        repeats = name in known and get_origin(known[name].annotation) in (list, tuple)
        if len(sent) > 1 and not repeats:
            raise InvalidRequest(f"{name} is given {len(sent)} times", param=name)
        values[name] = sent if repeats else sent[0]
    return parse(model, values)


def _read_json() -> Any:
    if not request.is_json:
        raise UnsupportedMedia("the body must be application/json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMedia("this path takes no Content-Encoding")
    body = request.get_data(cache=False)
    most = request.max_content_length
    if request.content_length is None and most is not None and len(body) >= most:
        # Of a body without a length no more than this was read; the rest may be anything.
        raise TooLarge(f"the body is over {most} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.endswith("surrogate in string"):
            raise InvalidRequest("text contains a lone surrogate", code="invalid_text") from error
        raise MalformedBody(f"not JSON: {error.msg} at character {error.pos}") from error
