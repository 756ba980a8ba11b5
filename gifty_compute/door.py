"""The facade's door, seen from outside: a checked address and token, and what an answer or silence says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from gifty_compute.errors import InvalidConfig

__all__ = ["checked_token", "checked_url", "innermost", "printable", "retry_after"]

_LONGEST_TEXT = 500


def checked_url(base_url: str) -> str:
    """The address without a slash at its end. Raises InvalidConfig for one that is not http(s)."""
    if "@" in base_url:
        raise InvalidConfig("the address must not hold a user or password; the token alone is the credential")
    try:
        parts = urlsplit(base_url.strip())
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        named = False
    # What follows may be a key.
    plain = re.split("[?#]", base_url, maxsplit=1)[0]
    if not named:
        raise InvalidConfig(f"{plain!r} is not an address like https://compute.example.org")
    if parts.query or parts.fragment:
        raise InvalidConfig(f"{plain!r} must end with its path, without ? or # and what follows")
    return base_url.strip().rstrip("/")


def checked_token(token: str) -> str:
    """The token. Raises InvalidConfig for one that fits no header."""
    if not token or not all("!" <= character <= "~" for character in token):
        raise InvalidConfig("the token must be printable ASCII without spaces (a stray line end, perhaps?)")
    return token


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait; None when it does not say.

    A date is taken relative to the answer's own Date: the clock of a notebook may be anything.

    >>> retry_after({"Retry-After": "7"})
    7.0
    >>> retry_after({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"})
    30.0
    >>> retry_after({"Retry-After": "soon"}) is None
    True
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return max(0.0, then.timestamp() - now.timestamp())


def innermost(error: BaseException) -> str:
    """What was the matter at the bottom of a chain of errors, as `[Errno 111] Connection refused`."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return printable(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """One line that a log or a terminal shows as it is.

    >>> printable("a\\n\\x1b[31mb")
    'a  [31mb'
    """
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_TEXT]).strip()
