"""An operation: one decorator that lets in, parses, and documents; so these three cannot differ."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_origin

from flask import Response, request
from pydantic import BaseModel
from werkzeug.exceptions import MethodNotAllowed

from api import rate
from api.admission import Kind, admission
from api.auth import Guard, Scope
from api.compression import unpacked
from api.facade import FacadeRequest, this_app, this_request
from gifty_compute.core import Core
from gifty_compute.errors import InvalidRequest, UnsupportedMedia
from gifty_compute.logging import set_log_context
from gifty_compute.queue.sight import Sight
from gifty_compute.wire.body import parse
from gifty_compute.wire.json import read_json
from gifty_compute.wire.task import Holder

__all__ = ["Operation", "caller", "core", "holder_of", "operation", "operations", "request_id", "sight"]

View = Callable[..., Response]
# Ids of a claim, types, models and spaces, and what stands beside them.
_MOST_PARAMETERS = 200
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
    lines: type[BaseModel] | None = None
    """What each line of a body of JSON Lines is; the view reads it."""
    media: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    """The media types of a 200 that comes in several, and what each line of it is."""
    gives: tuple[str, ...] = field(default=())
    """The headers of a 200, beside those that every answer has."""


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
    lines: type[BaseModel] | None = None,
    media: Mapping[str, type[BaseModel] | None] | None = None,
    gives: tuple[str, ...] = (),
    claims: bool = False,
    admits_path: Callable[[], None] | None = None,
) -> Callable[[View], View]:
    """Makes a view that is called with `body` and `query` parsed, as far as it has them.

    A GET that `claims` has no HEAD, which would hand out tasks in an answer without a body. `admits_path`
    raises NotFound for a path that means nothing; it is asked after the credential and before query and body.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def enter(**path: str) -> Response:
            asked = this_request()
            if scope is not None:
                guard: Guard = this_app().extensions["guard"]
                guard.admit(scope, asked)
                set_log_context(request_id=request_id(), client=asked.caller)
            if claims and asked.method == "HEAD":
                raise MethodNotAllowed(["GET", "OPTIONS"])
            if admits_path is not None:
                admits_path()
            if scope == "api":
                rate.admit(core(), asked.caller)
            parsed: dict[str, Any] = {}
            if query is not None:
                parsed["query"] = _read_query(query)
            if body is not None:
                parsed["body"] = parse(body, _read_json(asked))
            return view(**path, **parsed)

        operations[enter] = Operation(
            scope, body, query, answers, errors, headers, text, lines, media or {}, gives
        )
        return enter

    return decorate


def core() -> Core:
    """The core of the application that is answering."""
    found: Core = this_app().extensions["core"]
    return found


def caller() -> str:
    """The name that the credential of this request goes by."""
    return this_request().caller


def sight() -> Sight:
    """The clients whose tasks and batches this request may read and change; the paths of /v1 hand it on."""
    return core().sights.of(caller())


def holder_of(worker_id: str, session: str) -> Holder:
    """Who a worker is: the credential is the token's, and what it says names an instance within it."""
    own = this_request().worker_token
    return Holder(
        worker_id=worker_id,
        session=session,
        credential=caller(),
        strict=own is not None,
        trusted=own is None or own.trust == "trusted",
        newcomer=own is not None and own.verified < core().logic.file.trust.held,
    )


def request_id() -> str:
    """The caller's X-Request-Id, or one made for this request."""
    asked = this_request()
    if not asked.request_id:
        sent = asked.header("HTTP_X_REQUEST_ID")
        known = sent is not None and _REQUEST_ID.fullmatch(sent)
        asked.request_id = sent if sent and known else f"{core().rng.getrandbits(128):032x}"
    return asked.request_id


def _read_query(model: type[BaseModel]) -> BaseModel:
    if str(this_request().environ.get("QUERY_STRING", "")).count("&") >= _MOST_PARAMETERS:
        raise InvalidRequest(f"a query has {_MOST_PARAMETERS} parameters at most")
    known = {info.alias or name: info for name, info in model.model_fields.items()}
    values: dict[str, Any] = {}
    for name, sent in request.args.lists():
        if name not in known:
            raise InvalidRequest(f"{name[:60]}: there is no such parameter", param=name[:60])
        repeats = get_origin(known[name].annotation) in (list, tuple)
        if len(sent) > 1 and not repeats:
            raise InvalidRequest(f"{name} is given {len(sent)} times", param=name)
        values[name] = sent if repeats else sent[0]
    return parse(model, values)


def _read_json(asked: FacadeRequest) -> Any:
    if asked.header("CONTENT_TYPE") != "application/json" and not asked.is_json:
        raise UnsupportedMedia("the body must be application/json")
    encoding = (asked.header("HTTP_CONTENT_ENCODING") or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia("the Content-Encoding of a body is gzip, or none")
    most = core().settings.max_body_bytes
    kind = Kind.BODIES if asked.says_short() else Kind.LARGE_BODIES
    with admission().place(kind, asked.caller):
        body = asked.read(most)
    return read_json(unpacked(body, most) if encoding == "gzip" else body, largest=most)
