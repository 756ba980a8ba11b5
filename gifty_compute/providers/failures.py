"""From a provider's bad answer to what may help: the classes that hold for all, by HTTP status.

Where one provider means something else by a status, its own module says so before it asks here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gifty_compute.errors import Failure, InvalidRequest, ProviderError, TransportError
from gifty_compute.providers.base import Ask

__all__ = ["bad_answer", "by_status", "by_transport", "coined", "not_served", "retry_after", "word"]

_BY_STATUS = {
    400: Failure.FATAL,
    401: Failure.CONFIG,
    402: Failure.CONFIG,
    403: Failure.CONFIG,
    404: Failure.CONFIG,
    408: Failure.RETRY,
    409: Failure.RETRY,
    413: Failure.FATAL,
    422: Failure.FATAL,
    425: Failure.RETRY,
    429: Failure.RETRY,
    500: Failure.RETRY,
    502: Failure.RETRY,
    504: Failure.RETRY,
}
_CODES = {
    400: "bad_request",
    401: "bad_key",
    402: "no_credit",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    422: "bad_request",
    429: "rate_limited",
    498: "overloaded",
    503: "overloaded",
    529: "overloaded",
}
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")
_COINED = re.compile(r"[A-Za-z]+(_[A-Za-z]+)+|[A-Za-z]+(Error|Exception)")


def by_status(
    status: int,
    *,
    failure: Failure | None = None,
    code: str | None = None,
    wait: float | None = None,
    reason: str | None = None,
) -> ProviderError:
    """The error for this status; `failure` and `code` where the provider's own words say more.

    `wait` is in seconds, as the provider asked for it. A 429 without it is no reason to try there again.
    `reason` is what operators may read of its words (`Ask.tellable`).
    """
    said = _CODES.get(status, f"http_{status}")
    if failure is None and status == 429 and wait is None:
        failure = Failure.FAILOVER
    return ProviderError(
        f"answered {status}" + (f" ({code})" if code else ""),
        failure=failure or _BY_STATUS.get(status, Failure.FAILOVER),
        code=code or said,
        retry_after=wait,
        status=status,
        reason=reason,
    )


def by_transport(error: TransportError) -> ProviderError:
    """The error for bytes that did not arrive: only what was never sent may be tried there again."""
    failure = Failure.FAILOVER if error.sent else Failure.RETRY
    if error.code == "socks_needs_pycurl":
        failure = Failure.CONFIG
    return ProviderError(error.message, failure=failure, code=error.code)


def bad_answer(why: str, *, code: str = "bad_answer", reason: str | None = None) -> ProviderError:
    """The error for a 200 that holds no answer; `why` is ours, `reason` what may be told of its own."""
    return ProviderError(why, failure=Failure.FAILOVER, code=code, status=200, reason=reason)


def not_served(ask: Ask) -> InvalidRequest:
    """The error for a kind of work that the provider's wire format has no words for."""
    message = f"{ask.offer.provider} does not do {ask.offer.ask_as}"
    return InvalidRequest(message, param="model", code="not_served")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the headers ask to wait; None where they do not, or not readably.

    >>> retry_after({"retry-after-ms": "1500", "retry-after": "9"})
    1.5
    >>> retry_after({"retry-after": "soon"}) is None
    True
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", said):
            return float(said) * scale
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds()) if now else None


def word(value: object) -> str | None:
    """A provider's own error code if it is one short word, to be compared with those that are known."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def coined(value: object) -> str | None:
    """The same if it may be told to logs, metrics and callers: a name that programmers coin.

    A single word, or one with digits, may be somebody's: a name, a number, the whole of a short text.

    >>> coined("model_not_found"), coined("ValueError"), coined("Ivanova"), coined("order-4711")
    ('model_not_found', 'ValueError', None, None)
    """
    said = word(value)
    return said if said is not None and _COINED.fullmatch(said) else None
