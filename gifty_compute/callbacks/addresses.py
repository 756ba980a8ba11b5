"""Which addresses are public: reachable for everybody, so that nobody gains by having us call them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["is_public"]

# Beyond what Python counts as private: parts of these are global by the registry, and routed nowhere public.
_NOT_PUBLIC_V4 = (
    IPv4Network("192.0.0.0/24"),  # protocols' own; Oracle's metadata at 192.0.0.192
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # the host of every Azure machine
)
_UNICAST_V6 = IPv6Network("2000::/3")  # all that has been given out
_NOT_PUBLIC_V6 = (
    IPv6Network("2001::/23"),  # Teredo, ORCHID and other protocols
    IPv6Network("2002::/16"),  # 6to4: an IPv4 address within
    IPv6Network("3fff::/20"),  # documentation
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether a connection to it leaves for the public network. An address within another counts as itself.

    >>> [is_public(one) for one in ("93.184.216.34", "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1")]
    [True, False, False, False]
    """
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return _is_public_v4(found)
    if found.scope_id is not None:
        return False
    if found.ipv4_mapped is not None:
        return _is_public_v4(found.ipv4_mapped)
    if found in _NAT64:
        return _is_public_v4(IPv4Address(int(found) & 0xFFFF_FFFF))
    return found in _UNICAST_V6 and found.is_global and not any(found in net for net in _NOT_PUBLIC_V6)


def _is_public_v4(found: IPv4Address) -> bool:
    return found.is_global and not found.is_multicast and not any(found in net for net in _NOT_PUBLIC_V4)
