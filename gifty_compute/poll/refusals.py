"""What an answer that is not 200, or no answer at all, means to a worker: the one place that says so.

Final are 400, 404, 409, 413, 415 and 422: the same call cannot succeed later. All else is kept and retried,
since proxies, restarts and rotated tokens pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import requests
from pydantic import BaseModel, ValidationError

from gifty_compute.door import innermost, printable, retry_after
from gifty_compute.errors import (
    Conflict,
    GiftyComputeError,
    InvalidRequest,
    InvalidResult,
    LeaseLost,
    MalformedBody,
    NotFound,
    TaskFinished,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from gifty_compute.wire.task import OutcomeVerdict

__all__ = ["TokenRefused", "refusal", "refusal_in", "unreachable"]

# A mistaken date must not put a worker to sleep for a year.
_LONGEST_WAIT = 300.0


class TokenRefused(Unauthorized):
    """The token is missing, wrong or out of scope."""

    # The contract's word for workers: keep the result and try again, since tokens are rotated under them.
    retryable = True


class _Told(BaseModel):
    """What the contract's error body says."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    request_id: str | None = None


class _Envelope(BaseModel):
    error: _Told


_Make = Callable[[str, _Told], GiftyComputeError]

_BY_CODE: dict[tuple[int, str], _Make] = {
    (409, LeaseLost.code): lambda text, _: LeaseLost(text),
    (409, TaskFinished.code): lambda text, _: TaskFinished(text),
    (422, InvalidResult.code): lambda text, told: InvalidResult(text, param=told.param),
}
_BY_STATUS: dict[int, _Make] = {
    400: lambda text, _: MalformedBody(text),
    401: lambda text, _: TokenRefused(text),
    404: lambda text, _: NotFound(text),
    409: lambda text, _: Conflict(text),
    413: lambda text, _: TooLarge(text),
    415: lambda text, _: UnsupportedMedia(text),
    422: lambda text, told: InvalidRequest(text, param=told.param, code=told.code),
}


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> GiftyComputeError:
    """The error for an answer to `call` (say "POST /internal/workers/release") that is not 200."""
    told = _told(content)
    text = f"{call} was answered {status}: {_said(status, headers, told)}"
    return _final(status, text, told) or Unavailable(
        text, retry_after=min(retry_after(headers) or 0.0, _LONGEST_WAIT)
    )


def refusal_in(verdict: OutcomeVerdict) -> GiftyComputeError | None:
    """The error for one outcome among many; None when it was taken."""
    if verdict.status != "refused":
        return None
    text = printable(verdict.message or "") or f"refused with {verdict.http_status}"
    told = _Told(code=verdict.code, message=verdict.message)
    return _final(verdict.http_status, text, told) or Unavailable(text, retry_after=0.0)


def _final(status: int, text: str, told: _Told) -> GiftyComputeError | None:
    make = _BY_CODE.get((status, told.code or "")) or _BY_STATUS.get(status)
    return make(text, told) if make is not None else None


def unreachable(base_url: str, error: requests.RequestException) -> Unavailable:
    """The error for a call without an answer; names the innermost cause, as `Connection refused`."""
    # Nobody said when to come back: the caller's backoff decides.
    return Unavailable(f"{base_url} gave no answer: {innermost(error)}", retry_after=0.0)


def _told(content: bytes) -> _Told:
    try:
        return _Envelope.model_validate_json(content).error
    except ValidationError:
        # A proxy's page, or another service's error: nothing in it is worth repeating.
        return _Told()


def _said(status: int, headers: Mapping[str, str], told: _Told) -> str:
    if 300 <= status < 400:
        target = printable(headers.get("Location", "nowhere"))
        return f"a redirect to {target}, which is not followed; give the worker the address that answers"
    said = printable(told.message or "") or "not the contract's error; is this the facade's address?"
    return f"{said} (request {printable(told.request_id)[:100]})" if told.request_id else said
