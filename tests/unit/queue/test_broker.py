"""The broker's address in kombu's words."""

from __future__ import annotations

import pytest

from gifty_compute.queue.broker import broker_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:secret@localhost:6379/0",
        "redis://user:p%40ss@[::1]:6379/3",
        "rediss://:secret@redis.example:6380/0?ssl_cert_reqs=required",
        "redis://:unix://@localhost?db=1",
    ],
)
def test_a_network_address_stays_as_it_is(url: str) -> None:
    assert broker_url(url) == url


@pytest.mark.parametrize(
    ("url", "translated"),
    [
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("unix://:se%2Fcret@/run/valkey.sock", "redis+socket://:se%2Fcret@/run/valkey.sock"),
        ("unix:///run/valkey.sock?db=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
        ("unix:///run/%D0%BF%20x/v.sock?db=0", "redis+socket:///run/%D0%BF%20x/v.sock?virtual_host=0"),
    ],
)
def test_a_unix_socket_keeps_password_path_and_database_under_kombus_names(url: str, translated: str) -> None:
    assert broker_url(url) == translated
