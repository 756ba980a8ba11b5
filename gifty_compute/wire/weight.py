"""The weight of JSON: about how much memory its values take, told from its bytes before any value is made."""

from __future__ import annotations

__all__ = ["HEAVIEST", "weight"]

# Bytes in CPython for each of these; half as many again for a list or an object, which takes more time, too.
# A pair of quotes is a string, whose characters are not counted.
_CONTAINER, _NAME, _VALUE, _STRING = 120, 126, 32, 32
HEAVIEST = _NAME
"""No JSON weighs more than so many times its length."""
_PIECE = 2**18


def weight(data: bytes, enough: int) -> int:
    """About how many bytes of memory the values take. It stops counting past `enough`.

    A list of 3 bytes takes 80, a name of its own in an object 126: a body of 16 MB may become half a
    gigabyte, and all other threads wait while its values are made. Brackets, commas and colons inside of
    strings are told from others where it matters: where all together would be `enough`.

    >>> weight(b'{"a": [1, 2]}', 10**6)
    398
    >>> weight(b'{"a": "[[[[,,,,::::"}', 0) == weight(b'{"a": ""}', 0)
    True
    """
    quick = _weight(data)
    return quick if quick < enough else _weight_outside_of_strings(data, enough)


def _weight(data: bytes) -> int:
    names = data.count(b":")
    containers = data.count(b"[") + data.count(b"{")
    strings = data.count(b'"') // 2
    return (
        _CONTAINER * containers
        + _NAME * names
        + _VALUE * data.count(b",")
        + _STRING * max(0, strings - names)
    )


def _weight_outside_of_strings(data: bytes, enough: int) -> int:
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    found, inside = 0, 0
    for begin in range(0, len(data), _PIECE):
        parts = data[begin : begin + _PIECE].split(b'"')
        found += _weight(b'""'.join(parts[inside::2]))
        inside = (inside + len(parts) - 1) % 2
        if found >= enough:
            break
    return found
