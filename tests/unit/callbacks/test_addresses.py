"""Only addresses that everybody can reach are public."""

from __future__ import annotations

import pytest

from gifty_compute.callbacks.addresses import is_public

PRIVATE = {
    "this host": "0.0.0.0 :: 127.0.0.1 127.255.255.254 ::1",
    "this network": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12:3456::1 fec0::1",
    "link-local": "169.254.0.1 fe80::1 fe80::1%eth0",
    "metadata": "169.254.169.254 fd00:ec2::254 100.100.100.200 192.0.0.192 168.63.129.16",
    "a carrier's": "100.64.0.1 100.127.255.255",
    "many at once": "224.0.0.1 239.255.255.255 255.255.255.255 ff02::1 ff0e::1",
    "documentation and tests": "192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 2001:db8::1 3fff::1",
    "reserved": "240.0.0.1 192.0.0.1 192.88.99.1 4000::1 5f00::1 400::1 100::1",
    "IPv4 within": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 ::10.0.0.1 ::ffff:169.254.169.254",
    "6to4 and Teredo": "2002:7f00:1:: 2002:a9fe:a9fe:: 2002:5db8:d822:: 2001::1 2001:20::1",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1::1 64:ff9b:1::5db8:d822",
}
PUBLIC = "93.184.216.34 8.8.8.8 100.63.255.255 100.128.0.1 172.32.0.1 2606:4700::1111 2a00:1450::1"


@pytest.mark.parametrize("address", " ".join(PRIVATE.values()).split())
def test_this_one_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [*PUBLIC.split(), "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_this_one_is(address: str) -> None:
    assert is_public(address)
