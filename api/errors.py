"""From errors to answers: the one place that knows HTTP status codes, and the one shape of all errors."""

from __future__ import annotations

import logging
import math
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api.answers import json_answer
from api.facade import this_request
from api.operation import request_id
from gifty_compute import errors

__all__ = ["error_json", "install", "status_of"]

log = logging.getLogger(__name__)

# Most specific first. The types are OpenAI's words, which its clients already know.
_STATUS: tuple[tuple[type[errors.GiftyComputeError], int, str], ...] = (
    (errors.MalformedBody, 400, "invalid_request_error"),
    (errors.TooLarge, 413, "invalid_request_error"),
    (errors.UnsupportedMedia, 415, "invalid_request_error"),
    (errors.InvalidRequest, 422, "invalid_request_error"),
    (errors.InvalidResult, 422, "invalid_request_error"),
    (errors.Unauthorized, 401, "authentication_error"),
    (errors.NotAllowed, 403, "permission_error"),
    (errors.NotFound, 404, "not_found_error"),
    (errors.NotAcceptable, 406, "invalid_request_error"),
    (errors.Conflict, 409, "conflict_error"),
    (errors.NoRoute, 502, "upstream_error"),
    (errors.OverLimit, 429, "rate_limit_error"),
    (errors.ProvidersLimited, 429, "rate_limit_error"),
    (errors.Unavailable, 503, "unavailable_error"),
    (errors.DeadlineExceeded, 504, "timeout_error"),
)
# Every provider failed, or the caller's own time is over: the same call again costs the same once more, and
# clients of OpenAI's make it up to twice unless this header forbids it.
_FINAL = (errors.NoRoute, errors.DeadlineExceeded)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def install(app: Flask) -> None:
    """Gives every error of the application the contract's shape, and every answer its request id."""
    app.register_error_handler(errors.GiftyComputeError, _ours)
    app.register_error_handler(HTTPException, _werkzeug)
    app.register_error_handler(Exception, _unforeseen)
    app.after_request(_with_request_id)


def status_of(error: errors.GiftyComputeError) -> int:
    """The status that this error is answered with."""
    return next((status for kind, status, _ in _STATUS if isinstance(error, kind)), 500)


def error_json(error: errors.GiftyComputeError, request: str) -> dict[str, Any]:
    """The error as it is written where no status can say it any more: at the end of a streamed answer."""
    type_ = next((type_ for kind, _, type_ in _STATUS if isinstance(error, kind)), "server_error")
    return _body(type_, error.code, error.message, getattr(error, "param", None), request)


def _ours(error: errors.GiftyComputeError) -> Response:
    for kind, status, type_ in _STATUS:
        if isinstance(error, kind):
            answer = _answer(status, type_, error.code, error.message, getattr(error, "param", None))
            if isinstance(error, errors.Unavailable):
                answer.headers["Retry-After"] = str(math.ceil(error.retry_after))
            if isinstance(error, errors.TimeoutTooLong):
                answer.headers["X-Gifty-Max-Timeout-Ms"] = str(error.most_ms)
            if isinstance(error, _FINAL):
                answer.headers["x-should-retry"] = "false"
            if status == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
    return _unforeseen(error)


def _werkzeug(error: HTTPException) -> Response:
    status = error.code or 500
    type_ = "not_found_error" if status == 404 else "invalid_request_error"
    code = _HTTP_CODES.get(status, error.name.lower().replace(" ", "_"))
    answer = _answer(status, type_, code, error.description or error.name, None)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            answer.headers[name] = value
    return answer


def _unforeseen(error: Exception) -> Response:
    log.error("request %s failed", request_id(), exc_info=error)
    return _answer(500, "server_error", "internal_error", "a fault of ours; the log has it", None)


def _answer(status: int, type_: str, code: str, message: str, param: str | None) -> Response:
    asked = this_request()
    asked.error_code, asked.error_message = code, message
    body = _body(type_, code, message, param, request_id())
    if request.path.startswith(("/internal/", "/api/v1/internal/", "/scale/")):
        body["detail"] = message  # Gifty's older clients read this.
    version = asked.logic_version
    return json_answer(body, status, headers={"X-Gifty-Config": version} if version else None)


def _body(type_: str, code: str, message: str, param: str | None, request: str) -> dict[str, Any]:
    error = {"type": type_, "code": code, "message": message, "param": param, "request_id": request}
    return {"error": error}


def _with_request_id(answer: Response) -> Response:
    answer.headers.add("X-Request-Id", request_id())
    return answer
