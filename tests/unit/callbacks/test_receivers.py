"""Who may be called is judged by the URL and the list in force, at submit and before each try."""

from __future__ import annotations

from pathlib import Path

import pytest

from gifty_compute.callbacks.receivers import Receivers, masked
from gifty_compute.errors import InvalidRequest
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import read_logic

HOSTILE = {
    "no URL": ["", "shop.example", "//shop.example/", "https://", "https:///x", "http:shop.example"],
    "another scheme": [
        "ftp://shop.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "javascript://a.b/",
    ],
    "credentials": [
        "https://user:word@shop.example/",
        "https://shop.example@127.0.0.1/",
        "https://@a.example",
    ],
    "read in two ways": [
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example\t/",
        "https://shop.example /",
        "https://shop.example\r\nX: y/",
        "https://shop.example#@127.0.0.1/",
        "https://shop.example/#a",
        "https://[::1]shop.example/",
        "https://shop.example[::1]/",
        "https://a:80:80/",
        "https://shop.example:80@127.0.0.1:80/",
        "https://shop.example%2f@127.0.0.1/",
        "https://shop.example/путь",
        "https://shop.example\x00.evil.example/",
    ],
    "this machine": [
        "http://127.0.0.1/",
        "http://127.0.0.1:8000/internal/workers/tasks",
        "http://127.0.0.1./",
        "http://0.0.0.0/",
        "http://[::1]/",
        "http://[::]/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
        "http://localhost:6379/",
    ],
    "other spellings of it": [
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.01/",
        "http://１２７.０.０.１/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
    ],
    "this network": [
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://redis:6379/",
        "http://postgres/",
        "http://nas.local/",
        "http://printer.lan/",
    ],
    "metadata": [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://168.63.129.16/",
        "http://100.100.100.200/",
    ],
    "other protocols": [
        "http://shop.example:22/",
        "http://shop.example:25/",
        "http://shop.example:53/",
        "http://shop.example:0/",
        "http://shop.example:65536/",
        "http://shop.example:99999/",
        "http://shop.example:-1/",
        "http://shop.example:8o/",
    ],
}
ALL_HOSTILE = [url for urls in HOSTILE.values() for url in urls]


def receivers(tmp_path: Path, *allow_hosts: str, missing: str | None = None) -> Receivers:
    file = tmp_path / "logic.yaml"
    file.write_text(f"callbacks: {{allow_hosts: {list(allow_hosts)}}}", encoding="utf-8")
    logic: Logic = read_logic(file)
    return Receivers(lambda: logic, missing=missing)


@pytest.mark.parametrize("url", ALL_HOSTILE)
def test_a_hostile_url_is_refused_and_the_field_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        receivers(tmp_path).admit(url)

    assert (refused.value.param, refused.value.code) == ("callback_url", "callback_refused")


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example?a=b", "https://shop.example/?a=b"),
        ("HTTP://Shop.Example.:8080/Hook?a=%20", "http://shop.example:8080/Hook?a=%20"),
        ("https://магазин.рф/hook", "https://xn--80aairftm.xn--p1ai/hook"),
        ("https://93.184.216.34/", "https://93.184.216.34/"),
        ("https://[2606:4700:0::1111]:443/", "https://[2606:4700::1111]:443/"),
        ("https://shop.example:/", "https://shop.example/"),
    ],
)
def test_a_public_one_is_called_in_its_one_spelling(tmp_path: Path, url: str, called: str) -> None:
    receiver = receivers(tmp_path).admit(url)

    assert (receiver.url, receiver.is_named) == (called, False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9999/", "http://REDIS./", "http://[::1]:25/"])
def test_a_host_that_the_list_names_may_be_anywhere(tmp_path: Path, url: str) -> None:
    assert receivers(tmp_path, "127.0.0.1", "redis", "::1").admit(url).is_named


@pytest.mark.parametrize(
    "url", ["https://other.example/", "https://a.shop.example/", "https://shop.example.evil.example/"]
)
def test_with_a_list_nobody_else_is_called(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"not in callbacks\.allow_hosts"):
        receivers(tmp_path, "shop.example").admit(url)


@pytest.mark.parametrize("url", ["http://2130706433/", "http://127.1/", "http://x@127.0.0.1/"])
def test_even_a_named_host_has_one_spelling(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest):
        receivers(tmp_path, "127.0.0.1").admit(url)


def test_without_a_secret_nobody_is_called(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="CALLBACK_SECRET") as refused:
        receivers(tmp_path, missing="CALLBACK_SECRET is not set").admit("https://shop.example/")

    assert refused.value.code == "not_served"


def test_a_refusal_never_quotes_what_may_be_secret(tmp_path: Path) -> None:
    for url in ("https://user:SECRET@a.example/", "https://a.example:1/?SECRET", "ftp://a.example/?SECRET"):
        with pytest.raises(InvalidRequest) as refused:
            receivers(tmp_path).admit(url)
        assert "SECRET" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://shop.example/hook", "https://shop.example/hook"),
        ("https://user:SECRET@shop.example:8080/hook?key=SECRET", "https://shop.example:8080/hook?…"),
        ("https://shop.example?SECRET", "https://shop.example?…"),
        ("SECRET@shop.example", "shop.example"),
        ("https://user:SEC?RET@shop.example/", "https://shop.example/"),
    ],
)
def test_a_masked_url_shows_where_and_no_secret(url: str, shown: str) -> None:
    assert masked(url) == shown
