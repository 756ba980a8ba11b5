"""What can go wrong on the providers' side."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["BYTES", "ROWS", "STATUSES", "STREAMS", "Fault"]


class Fault(StrEnum):
    """One way in which a provider fails; a status is in the provider's own form."""

    BAD_REQUEST = "400"
    BAD_KEY = "401"
    NO_CREDIT = "402"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    RATE_LIMITED = "429"
    RATE_LIMITED_WAIT = "429 with Retry-After"
    ERROR = "500"
    OVERLOADED = "503"
    ERROR_INSIDE = "an error inside a 200"
    HTML = "a page, 200"
    HTML_502 = "a page, 502"
    EMPTY = "an empty object"
    TRUNCATED_JSON = "half of the JSON"
    HANG = "no answer"
    HELD = "a good answer, as soon as the test releases it"
    HEADERS_ONLY = "headers, no body"
    DRIP = "a byte now and then"
    TRUNCATED = "less than Content-Length"
    RESET = "a reset"
    WRONG_COUNT = "one row less"
    PERMUTED = "rows in another order, with their indexes"
    NAN = "NaN"
    ZERO = "a vector of zeros"
    WRONG_DIMENSION = "another dimension"
    ROTATED = "another space of the same dimension"
    CUT_STREAM = "a stream that ends too early"
    HUNG_STREAM = "a stream that stops after its first piece"


STATUSES = {
    Fault.BAD_REQUEST: 400,
    Fault.BAD_KEY: 401,
    Fault.NO_CREDIT: 402,
    Fault.FORBIDDEN: 403,
    Fault.NOT_FOUND: 404,
    Fault.RATE_LIMITED: 429,
    Fault.RATE_LIMITED_WAIT: 429,
    Fault.ERROR: 500,
    Fault.OVERLOADED: 503,
}
BYTES = frozenset(
    {
        Fault.HTML,
        Fault.HTML_502,
        Fault.EMPTY,
        Fault.TRUNCATED_JSON,
        Fault.HANG,
        Fault.HEADERS_ONLY,
        Fault.DRIP,
        Fault.TRUNCATED,
        Fault.RESET,
    }
)
ROWS = frozenset(
    {Fault.WRONG_COUNT, Fault.PERMUTED, Fault.NAN, Fault.ZERO, Fault.WRONG_DIMENSION, Fault.ROTATED}
)
STREAMS = frozenset({Fault.CUT_STREAM, Fault.HUNG_STREAM})
