"""Durations as people write them: 11h30m."""

from __future__ import annotations

import re

from gifty_compute.errors import InvalidConfig

__all__ = ["seconds_of"]

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_WRITTEN = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def seconds_of(written: str) -> float:
    """Raises InvalidConfig for anything that is not a positive duration.

    >>> seconds_of("11h30m"), seconds_of("90s"), seconds_of("1.5h")
    (41400.0, 90.0, 5400.0)
    """
    text = written.strip().lower()
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not _WRITTEN.fullmatch(text) or not 0 < seconds < 366 * 86_400:
        raise InvalidConfig(f"{written[:40]!r} is not a duration like 11h30m, 90s or 1d")
    return seconds
