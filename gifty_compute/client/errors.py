"""What a call of the service can end with, besides its answer."""

from __future__ import annotations

from typing import Any

from gifty_compute.errors import GiftyComputeError

__all__ = [
    "ApiError",
    "Busy",
    "DeadlinePassed",
    "InConflict",
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

    `code` and `param` are the contract's; `retry_after` is in seconds; `request_id` finds the service's log.
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
    ) -> None:
        super().__init__(message)
        self.status, self.param = status, param
        self.code = code or type(self).code
        self.request_id, self.retry_after = request_id, retry_after


class Refused(ApiError):
    """The request breaks a rule (400, 413, 415, 422)."""


class NotAllowed(ApiError):
    """The token is missing, wrong or out of scope (401)."""


class NotThere(ApiError):
    """There is no such task, batch or path (404, 405)."""


class InConflict(ApiError):
    """The task is finished, or the Idempotency-Key came with another body before (409)."""


class Busy(ApiError):
    """The service cannot do it now (429, 503); `retry_after` says when."""

    retryable = True


class UpstreamFailed(ApiError):
    """Every provider failed (502)."""

    retryable = True


class DeadlinePassed(ApiError):
    """No provider answered in time (504)."""

    retryable = True


class ServiceFault(ApiError):
    """A fault of the service (500), or an answer that is none of its."""

    retryable = True


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


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Refused,
    401: NotAllowed,
    404: NotThere,
    405: NotThere,
    409: InConflict,
    413: Refused,
    415: Refused,
    422: Refused,
    429: Busy,
    502: UpstreamFailed,
    503: Busy,
    504: DeadlinePassed,
}


def error_of(status: int, headers: Any, body: Any) -> ApiError:
    """The error that an answer stands for; a proxy's page in its place is a ServiceFault or Busy."""
    told = body.get("error") if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    wait = headers.get("Retry-After")
    return _BY_STATUS.get(status, ServiceFault)(
        told.get("message") or f"the service answered {status}",
        status=status,
        code=told.get("code"),
        param=told.get("param"),
        request_id=told.get("request_id") or headers.get("X-Request-Id"),
        retry_after=float(wait) if isinstance(wait, str) and wait.isdigit() else None,
    )
