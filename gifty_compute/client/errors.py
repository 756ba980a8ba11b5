"""What a call of the service can end with, besides its answer.

GiftyComputeError
├── ApiError              the service answered with an error
│   ├── Refused           the request breaks a rule: 400, 413, 415, 422; `param` names the field
│   ├── NotAllowed        the token: 401, 403
│   ├── NotThere          no such task, batch or path: 404, 405
│   ├── InConflict        the task has ended, or the key was used for something else: 409
│   ├── Busy              not now: 429, 503; `retry_after` says when
│   ├── UpstreamFailed    every provider failed: 502
│   ├── DeadlinePassed    no provider answered in time: 504
│   └── ServiceFault      a fault of the service: 500; or an answer that is not the service's
├── Unreachable           there was no answer: `sent` says whether the service may have seen the call
├── TaskFailed            a task ended without a result
└── MixedSpaces           the vectors of one `map` are not of one space
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gifty_compute.door import printable, retry_after
from gifty_compute.errors import GiftyComputeError

__all__ = [
    "ApiError",
    "Busy",
    "DeadlinePassed",
    "InConflict",
    "MixedSpaces",
    "NotAllowed",
    "NotThere",
    "Refused",
    "ServiceFault",
    "TaskFailed",
    "Unreachable",
    "UpstreamFailed",
    "error_of",
]


class ApiError(GiftyComputeError):
    """The service answered with an error.

    `code` and `param` are the contract's; `retry_after` is in seconds; `request_id` finds lines of the log;
    `max_timeout_ms` is the longest `timeout_ms` that the service takes, where it refused a longer one.
    """

    code = "api_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 0,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        max_timeout_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param = status, param
        self.max_timeout_ms = max_timeout_ms
        self.code = code or type(self).code
        self.request_id, self.retry_after = request_id, retry_after

    @property
    def is_told(self) -> bool:
        """Whether these are the service's own words, and not those of a proxy before it."""
        return self.code != ApiError.code

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} [{self.status} {self.code}{request}]"


class Refused(ApiError):
    """The request breaks a rule."""


class NotAllowed(ApiError):
    """The token is missing, wrong or out of scope."""


class NotThere(ApiError):
    """There is no such task, batch or path."""


class InConflict(ApiError):
    """The task has ended, or the Idempotency-Key came with another body before."""


class Busy(ApiError):
    """The service cannot do it now; `retry_after` says when."""

    retryable = True


class UpstreamFailed(ApiError):
    """Every provider failed."""

    retryable = True


class DeadlinePassed(ApiError):
    """No provider answered in time."""

    retryable = True


class ServiceFault(ApiError):
    """A fault of the service, which may pass; or an answer that is not the service's, which will not."""

    def __init__(self, message: str | None = None, *, status: int = 0, **more: Any) -> None:
        super().__init__(message, status=status, **more)
        self.retryable = status >= 500


class Unreachable(GiftyComputeError):
    """The service did not answer: `sent` says whether it may have seen the request."""

    code = "unreachable"
    retryable = True

    def __init__(self, message: str | None = None, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class TaskFailed(GiftyComputeError):
    """The task ended without a result: `status` is failed or cancelled."""

    code = "task_failed"

    def __init__(self, message: str | None = None, *, task_id: str = "", status: str = "failed") -> None:
        super().__init__(message)
        self.task_id, self.status = task_id, status


class MixedSpaces(GiftyComputeError):
    """The vectors are of two spaces and must not be compared."""

    code = "mixed_spaces"


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Refused,
    401: NotAllowed,
    403: NotAllowed,
    404: NotThere,
    405: NotThere,
    406: Refused,
    409: InConflict,
    413: Refused,
    415: Refused,
    422: Refused,
    429: Busy,
    502: UpstreamFailed,
    503: Busy,
    504: DeadlinePassed,
}


def error_of(status: int, headers: Mapping[str, str], body: Any) -> ApiError:
    """The error that an answer stands for; of a proxy's page in its place the status alone is known."""
    told = body.get("error") if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    return _BY_STATUS.get(status, ServiceFault)(
        told.get("message") or _unsaid(status, headers),
        status=status,
        code=told.get("code"),
        param=told.get("param"),
        request_id=told.get("request_id") or headers.get("X-Request-Id"),
        retry_after=retry_after(headers),
        max_timeout_ms=_milliseconds(headers.get("X-Gifty-Max-Timeout-Ms")),
    )


def _milliseconds(said: str | None) -> int | None:
    return int(said) if said is not None and said.isascii() and said.isdigit() else None


def _unsaid(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        target = printable(headers.get("Location", "nowhere"))
        return f"a redirect to {target}, which is not followed: give the client the address that answers"
    return "not the service's own error: is this its address?"
