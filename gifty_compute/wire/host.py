"""The host of a URL, in the one spelling in which hosts can be compared."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

__all__ = ["Host", "read_host"]

Host = str | IPv4Address | IPv6Address
"""A name in lower-case ASCII without a dot at its end, or an address."""

_NAME = re.compile(
    r"(?!.{254})(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
# What begins like this is read as an address by some programs: 127.1, 0x7f000001, 017700000001.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def read_host(text: str) -> Host:
    """The host that this text of a URL means. Raises ValueError with the reason.

    Addresses have one spelling only: other programs read 0x7f.1 or 2130706433 as 127.0.0.1.

    >>> read_host("Пример.РФ."), str(read_host("[::FFFF:7f00:1]"))
    ('xn--e1afmkfd.xn--p1ai', '::ffff:7f00:1')
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if "%" in text:
            raise ValueError("an address with a zone is of one machine alone")
        return IPv6Address(text)
    try:
        name = text.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError as error:
        raise ValueError("it is not a name") from error
    if not _NAME.fullmatch(name):
        raise ValueError("it is not a name")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return IPv4Address(name)
    return name
