"""JSON at the border: bytes of a caller's to a value, and values with arrays, ids and times to bytes."""

from __future__ import annotations

from typing import Any

import orjson

from gifty_compute.errors import InvalidRequest, MalformedBody

__all__ = ["read_json", "write_json"]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


def read_json(data: bytes) -> Any:
    """The value that a caller sent. Raises MalformedBody, and InvalidRequest for a lone surrogate.

    >>> read_json(b'{"input": "a"}')
    {'input': 'a'}
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if error.msg.endswith("surrogate in string"):
            raise InvalidRequest("text contains a lone surrogate", code="invalid_text") from error
        raise MalformedBody(f"not JSON: {error.msg} at character {error.pos}") from error


def write_json(value: Any) -> bytes:
    """The value as the contract shows it: times in UTC with Z. float16 is widened, which loses nothing."""
    return orjson.dumps(value, option=_OPTIONS, default=_widened)


def _widened(value: Any) -> Any:
    # orjson writes no float16, and only arrays in C order.
    if hasattr(value, "astype"):
        return value.astype("float32").tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
