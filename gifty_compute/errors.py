"""The errors of gifty-compute, one tree; each has a stable code and says whether trying again can help.

GiftyComputeError
├── InvalidRequest            the caller's fault: `param` names the field
│   ├── MalformedBody         not JSON, nested too deep
│   ├── TooLarge              over a size limit
│   ├── TimeoutTooLong        `timeout_ms` over the route's maximum
│   └── UnsupportedMedia      content type or encoding
├── Unauthorized
├── NotAllowed               the credential is good, but its client may not ask for this
├── NotFound
├── NotAcceptable
├── Conflict                  the task is not the caller's to change
│   ├── LeaseLost
│   ├── TaskFinished
│   └── IdempotencyConflict
├── InvalidResult             a worker's or provider's result breaks its type's schema
├── InvalidConfig             a file or variable that the operator must mend
├── EngineError               a model could not do its work
│   └── OutOfMemory           a pass was too large
├── TransportError            bytes did not arrive: `sent` says whether the request may have
├── ProviderError             a provider could not or would not answer: `failure` says what may help
├── NoRoute                   every provider of the route failed
├── DeadlineExceeded
└── Unavailable               ours or a store's; `retry_after` says when to come back
    ├── StoreUnavailable
    ├── ProvidersLimited      every provider of the route is at its rate limit
    └── OverLimit             the caller's own limit, not ours
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "Conflict",
    "DeadlineExceeded",
    "EngineError",
    "Failure",
    "GiftyComputeError",
    "IdempotencyConflict",
    "InvalidConfig",
    "InvalidRequest",
    "InvalidResult",
    "LeaseLost",
    "MalformedBody",
    "NoRoute",
    "NotAcceptable",
    "NotAllowed",
    "NotFound",
    "OutOfMemory",
    "OverLimit",
    "ProviderError",
    "ProvidersLimited",
    "StoreUnavailable",
    "TaskFinished",
    "TimeoutTooLong",
    "TooLarge",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMedia",
]


class GiftyComputeError(Exception):
    """Something went wrong in gifty-compute."""

    code = "internal_error"
    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__class__.__doc__)

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def for_operators(self) -> str:
        """The code and all that operators may read of why; callers get `message`."""
        return f"{self.code}: {self.message}"


class InvalidRequest(GiftyComputeError):
    """The request breaks a rule."""

    code = "invalid_value"

    def __init__(
        self, message: str | None = None, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code


class MalformedBody(InvalidRequest):
    """The body is not JSON."""

    code = "malformed_body"


class TooLarge(InvalidRequest):
    """The body is over the limit."""

    code = "too_large"


class TimeoutTooLong(InvalidRequest):
    """The timeout that the caller names is longer than its route allows."""

    code = "timeout_too_long"

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = "timeout_ms",
        code: str | None = None,
        most_ms: int = 0,
    ) -> None:
        """`most_ms` is the route's maximum."""
        super().__init__(message, param=param, code=code)
        self.most_ms = most_ms


class UnsupportedMedia(InvalidRequest):
    """The content type or encoding is not supported."""

    code = "unsupported_media"


class Unauthorized(GiftyComputeError):
    """The credential is missing, wrong or out of scope."""

    code = "unauthorized"


class NotAllowed(GiftyComputeError):
    """This client may not ask for that."""

    code = "not_allowed"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFound(GiftyComputeError):
    """There is no such thing here."""

    code = "not_found"


class NotAcceptable(GiftyComputeError):
    """There is no such representation."""

    code = "not_acceptable"


class Conflict(GiftyComputeError):
    """The task is not the caller's to change."""

    code = "conflict"


class LeaseLost(Conflict):
    """The task is no longer held under this attempt."""

    code = "lease_lost"


class TaskFinished(Conflict):
    """The task has ended with another outcome."""

    code = "task_finished"


class IdempotencyConflict(Conflict):
    """The Idempotency-Key came back with another body."""

    code = "idempotency_conflict"


class InvalidResult(GiftyComputeError):
    """The result breaks its type's schema."""

    code = "invalid_result"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidConfig(GiftyComputeError):
    """The configuration is not valid."""

    code = "invalid_config"


class EngineError(GiftyComputeError):
    """The model could not do its work."""

    code = "engine_error"
    retryable = True


class OutOfMemory(EngineError):
    """A pass was too large for the memory that the model has."""

    code = "out_of_memory"


class TransportError(GiftyComputeError):
    """The bytes of a request or an answer did not arrive.

    Codes: connect_failed, connection_lost, timeout, response_too_large, bad_certificate, address_refused,
    proxy_refused, socks_needs_pycurl.
    `sent` is False only when the other side cannot have seen the request.
    """

    code = "connection_lost"
    retryable = True

    def __init__(self, message: str | None = None, *, code: str | None = None, sent: bool = True) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.sent = sent


class Failure(StrEnum):
    """What may help after a provider failed."""

    RETRY = "retry"
    """The same provider may succeed soon."""
    FAILOVER = "failover"
    """This provider cannot serve now; the next one may."""
    FATAL = "fatal"
    """The request itself is bad, or refused, by the provider's word."""
    CONFIG = "config"
    """Key, credit, permission, model id or region: the operator must act, and no caller is at fault."""


class ProviderError(GiftyComputeError):
    """A provider could not or would not answer.

    The message is ours alone, and callers may read it: providers quote inputs and tracebacks in theirs.
    `reason` is what operators may read of the provider's own words: redacted, for logs and /ops, never for
    callers. `status` is that of HTTP, None where no answer came. `retry_after` is in seconds, None where the
    provider did not say. `is_load` says that the call was refused for the work that this service has queued
    before it: the provider is healthy, and a caller with more time may be answered.
    """

    code = "provider_error"
    retryable = True

    def __init__(
        self,
        message: str | None = None,
        *,
        failure: Failure = Failure.FAILOVER,
        code: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        reason: str | None = None,
        is_load: bool = False,
    ) -> None:
        super().__init__(message or code)
        self.status = status
        self.reason = reason
        self.failure = failure
        self.code = code or type(self).code
        self.retry_after = retry_after
        self.is_load = is_load

    @property
    def for_operators(self) -> str:
        told = super().for_operators
        return f"{told}: {self.reason}" if self.reason else told


class NoRoute(GiftyComputeError):
    """Every provider of the route failed."""

    code = "no_route"
    retryable = True

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class DeadlineExceeded(GiftyComputeError):
    """The deadline passed before an answer was there."""

    code = "deadline_exceeded"
    retryable = True


class Unavailable(GiftyComputeError):
    """The service cannot do this now."""

    code = "unavailable"
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverLimit(Unavailable):
    """The caller is over a limit of its own."""

    code = "over_limit"


class ProvidersLimited(Unavailable):
    """Every provider of the route is at its rate limit; `retry_after` is the shortest that one asked for."""

    code = "rate_limited"


class StoreUnavailable(Unavailable):
    """The database does not answer."""

    code = "store_unavailable"
