"""A host has one spelling, so that a list can be compared with what is called."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from gifty_compute.wire.host import Host, read_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Shop.Example", "shop.example"),
        ("shop.example.", "shop.example"),
        ("магазин.рф", "xn--80aairftm.xn--p1ai"),
        ("xn--80aairftm.xn--p1ai", "xn--80aairftm.xn--p1ai"),
        ("under_score.example", "under_score.example"),
        ("redis", "redis"),
        ("127.0.0.1", IPv4Address("127.0.0.1")),
        ("１２７.０.０.１", IPv4Address("127.0.0.1")),
        ("127。0。0。1", IPv4Address("127.0.0.1")),
        ("[::1]", IPv6Address("::1")),
        ("[0:0::0:1]", IPv6Address("::1")),
        ("4.example", "4.example"),
    ],
)
def test_the_same_host_is_read_the_same(text: str, host: Host) -> None:
    assert read_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a.example",
        "a-.example",
        "a" * 64 + ".example",
        "a." * 127 + "example",
        "127.1",
        "127.0.0.01",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "a.example.0x",
        "%31%32%37.0.0.1",
        "a b",
        "a\x00b",
        "\ud800.example",
        "[fe80::1%eth0]",
        "[::1",
        "::1",
        "[]",
        "*.example",
        "a/b",
        "a@b",
        "a:80",
    ],
)
def test_what_others_may_read_otherwise_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has a reason of its own
        read_host(text)
