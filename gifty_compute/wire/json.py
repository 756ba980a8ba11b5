"""JSON at the border: bytes of a caller's to a value, and values with arrays, ids and times to bytes."""

from __future__ import annotations

import gc
from typing import Any

import orjson

from gifty_compute.errors import InvalidRequest, MalformedBody, TooLarge
from gifty_compute.wire.weight import HEAVIEST, weight

__all__ = ["read_json", "write_json"]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


# In bytes a byte of the largest body: vectors as numbers take three or four. Small bodies may be of anything.
_TIMES_THE_LARGEST_BODY, _LEAST_ROOM = 6, 32 * 2**20
_LARGE = 2**18


def read_json(data: bytes, *, largest: int | None = None) -> Any:
    """The value that a caller sent. Raises MalformedBody, and InvalidRequest for a lone surrogate.

    `largest` is how long a body of this service may be. With it, TooLarge is raised for one whose values
    would take many times that in memory, before they are made.

    >>> read_json(b'{"input": "a"}')
    {'input': 'a'}
    """
    if largest is not None:
        room = max(_LEAST_ROOM, _TIMES_THE_LARGEST_BODY * largest)
        if len(data) > room // HEAVIEST and weight(data, room) >= room:
            raise TooLarge(f"the body holds too many values: they would take over {room >> 20} MiB of memory")
    try:
        return _read_large(data) if len(data) > _LARGE else orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if error.msg.endswith("surrogate in string"):
            raise InvalidRequest("text contains a lone surrogate", code="invalid_text") from error
        raise MalformedBody(f"not JSON: {error.msg} at character {error.pos}") from error


def _read_large(data: bytes) -> Any:
    # While 800,000 lists are made, the collector looks at them again and again: 0.5 s in place of 0.08, in
    # which no other thread runs.
    if not gc.isenabled():
        return orjson.loads(data)
    gc.disable()
    try:
        return orjson.loads(data)
    finally:
        gc.enable()


def write_json(value: Any) -> bytes:
    """The value as the contract shows it: times in UTC with Z. float16 is widened, which loses nothing."""
    return orjson.dumps(value, option=_OPTIONS, default=_widened)


def _widened(value: Any) -> Any:
    # orjson writes no float16, and only arrays in C order.
    if hasattr(value, "astype"):
        return value.astype("float32").tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
