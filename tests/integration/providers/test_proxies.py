"""Calls of a provider behind a proxy: real proxies, and a name that only they can look up (F11)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import NoRoute
from gifty_compute.high import build_high_road
from gifty_compute.logic.source import parse_logic
from gifty_compute.transport.base import Transport
from tests.fakes.proxies import HttpProxy, SocksProxy
from tests.fakes.server import FakeProviders
from tests.integration.providers.conftest import CLOCK, NO_REDIS, call_of

NAME = "api.groq.invalid"
LOGIC = "llm: {default_provider: groq}\nproviders: {groq: {%s}}"


@pytest.fixture
def ask(fake: FakeProviders, transport: Transport) -> Any:
    """Asks Groq, which is to be reached under a name that this machine cannot look up."""

    def ask(section: str, environ: dict[str, str], base_url: str | None = None) -> Any:
        path = urlsplit(fake.base_url("groq")).path
        known = {"GROQ_API_KEY": "good-key", "GROQ_API_BASE": base_url or f"http://{NAME}{path}"}
        high = build_high_road(
            {**known, **environ},
            NO_REDIS,
            Inference(EngineShelf(), CLOCK),
            CLOCK,
            Random(1),
            transport=transport,
        )
        try:
            return high.router.run(call_of(parse_logic(LOGIC % section), "llm"))
        finally:
            high.sync.stop()

    return ask


def port_of(fake: FakeProviders) -> int:
    return int(urlsplit(fake.base_url("groq")).port or 0)


@pytest.mark.parametrize("transport", ["curl"], indirect=True)
@pytest.mark.parametrize("user", ["", "gifty"])
def test_a_provider_is_reached_through_a_socks_proxy_that_looks_its_name_up(
    fake: FakeProviders, ask: Any, user: str
) -> None:
    with SocksProxy({NAME: port_of(fake)}, user=user, password="p4ss") as proxy:
        answer = ask("proxy_variable: LLM_PROXY_URL", {"LLM_PROXY_URL": proxy.url})

        assert answer.result["content"] == "Подарите удочку."
        assert proxy.asked == [NAME]
    assert len(fake.calls("groq")) == 1


@pytest.mark.parametrize("user", ["", "gifty"])
def test_a_provider_is_reached_through_an_http_proxy(fake: FakeProviders, ask: Any, user: str) -> None:
    with HttpProxy({NAME: port_of(fake)}, user=user, password="p4ss") as proxy:
        answer = ask("proxy_variable: LLM_PROXY_URL", {"LLM_PROXY_URL": proxy.url})

        assert answer.result["content"] == "Подарите удочку."
        assert proxy.asked == [NAME]


def test_a_server_on_this_machine_is_asked_directly(fake: FakeProviders, ask: Any) -> None:
    with HttpProxy({}) as proxy:
        environ = {"PROVIDERS_PROXY": proxy.url, "P": proxy.url}

        assert ask("", environ, fake.base_url("groq")).provider == "groq"
        assert ask("proxy_variable: P", environ, fake.base_url("groq")).provider == "groq"
        assert proxy.asked == []


@pytest.mark.parametrize("transport", ["curl"], indirect=True)
def test_each_provider_has_its_own_way(fake: FakeProviders, ask: Any) -> None:
    """Gifty's own API is not beyond the LLM vendors' proxy."""
    with SocksProxy({NAME: port_of(fake)}) as own, HttpProxy({NAME: port_of(fake)}) as for_all:
        environ = {"PROVIDERS_PROXY": for_all.url, "LLM_PROXY_URL": own.url}
        for section in ("proxy_variable: LLM_PROXY_URL", "", f"proxy: '{own.address}'"):
            assert ask(section, environ).provider == "groq"

        # The third call went by the connection of the first.
        assert (len(own.asked), len(for_all.asked)) == (1, 1)
        with pytest.raises(NoRoute, match="connect_failed"):
            ask("proxy: none", environ)
        assert (len(own.asked), len(for_all.asked)) == (1, 1)


@pytest.mark.parametrize("make_proxy", [SocksProxy, HttpProxy])
@pytest.mark.parametrize("transport", ["curl"], indirect=True)
def test_a_proxy_that_refuses_is_an_error_that_shows_no_password(
    fake: FakeProviders, ask: Any, make_proxy: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with make_proxy({NAME: port_of(fake)}, user="gifty", password="right") as proxy:
        wrong = proxy.url.replace("right", "p4ss-canary")
        with pytest.raises(NoRoute) as caught:
            ask("proxy_variable: LLM_PROXY_URL", {"LLM_PROXY_URL": wrong})

    assert "canary" not in str(caught.value) + caplog.text
    assert not fake.calls("groq")


def test_an_address_that_is_no_proxys_is_the_operators_to_mend(ask: Any) -> None:
    with pytest.raises(NoRoute, match="bad_proxy") as caught:
        ask("proxy_variable: LLM_PROXY_URL", {"LLM_PROXY_URL": "ftp://canary.example.com"})

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("transport", ["urllib3"], indirect=True)
def test_where_a_transport_knows_no_socks_the_operator_is_told_what_to_install(ask: Any) -> None:
    with pytest.raises(NoRoute, match="socks_needs_pycurl"):
        ask("proxy_variable: LLM_PROXY_URL", {"LLM_PROXY_URL": "socks5h://127.0.0.1:9"})
