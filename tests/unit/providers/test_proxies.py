"""Which proxy leads to a provider, if any (F11)."""

from __future__ import annotations

from typing import Any

import pytest

from gifty_compute.errors import InvalidConfig
from gifty_compute.logic.source import parse_logic
from gifty_compute.providers.access import Access
from gifty_compute.providers.base import Site

FAR = "https://api.example.com/v1"
ALL = "http://all.example.com:3128"
OWN = "socks5h://own.example.com:1080"


def site(base_url: str = FAR, environ: dict[str, str] | None = None, **section: Any) -> Site | str:
    """The site of a provider with this section; what it lacks where it has none."""
    lines = [f"base_url: '{base_url}'", *(f"{name}: '{value}'" for name, value in section.items())]
    logic = parse_logic(
        "llm: {default_provider: own}\nmodels: {fast: {providers: {own: m}}}\n"
        f"providers: {{own: {{adapter: openai_like, kinds: [llm], {', '.join(lines)}}}}}"
    )
    [offer] = logic.offers("llm", logic.model("llm", "fast"))
    access = Access(environ or {})
    sites = access.sites(offer)
    return sites[0] if sites else str(access.lacks(offer))


def proxy(base_url: str = FAR, environ: dict[str, str] | None = None, **section: Any) -> str:
    found = site(base_url, environ, **section)
    assert isinstance(found, Site)
    return found.proxy


def test_a_providers_own_proxy_comes_before_the_one_for_all() -> None:
    everybody = {"PROVIDERS_PROXY": ALL, "LLM_PROXY_URL": "socks5://llm.example.com:1080"}

    assert proxy() == ""
    assert proxy(environ=everybody) == ALL
    assert proxy(environ=everybody, proxy=OWN) == OWN
    assert proxy(environ=everybody, proxy_variable="LLM_PROXY_URL") == "socks5://llm.example.com:1080"
    assert proxy(environ=everybody, proxy=OWN, proxy_variable="UNSET") == OWN
    assert proxy(environ=everybody, proxy="none") == ""


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_each_kind_of_proxy_may_be_named(scheme: str) -> None:
    assert proxy(proxy=f"{scheme}://p.example.com:1080") == f"{scheme}://p.example.com:1080"


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8000/v1",
        "http://127.9.9.9",
        "http://localhost:8000",
        "http://LOCALHOST.:8000",
        "http://llm.localhost",
        "http://[::1]:8000",
        "http://[::ffff:127.0.0.1]:8000",
        "http://0.0.0.0:8000",
    ],
)
def test_no_proxy_leads_to_this_machine(base_url: str) -> None:
    assert proxy(base_url, {"PROVIDERS_PROXY": ALL}) == ""
    assert proxy(base_url, {"PROVIDERS_PROXY": ALL}, proxy=OWN) == ""


@pytest.mark.parametrize(
    "base_url",
    [
        "http://10.0.0.7:8000",
        "http://192.168.1.5",
        "http://[fd00::1]",
        "http://169.254.1.1",
        "http://vllm:8000",
        "http://vllm.svc.cluster.local",
        "http://gpu.internal",
    ],
)
def test_to_a_neighbour_only_a_proxy_of_its_own_leads(base_url: str) -> None:
    assert proxy(base_url, {"PROVIDERS_PROXY": ALL}) == ""
    assert proxy(base_url, {"PROVIDERS_PROXY": ALL}, proxy=OWN) == OWN


@pytest.mark.parametrize(
    "base_url", ["http://8.8.8.8", "http://local.example.com", "http://notlocalhost.ru", FAR]
)
def test_all_others_are_reached_by_the_proxy_for_all(base_url: str) -> None:
    assert proxy(base_url, {"PROVIDERS_PROXY": ALL}) == ALL


def test_a_proxy_variable_that_is_not_set_is_missing_and_no_provider_is_asked_without_it() -> None:
    """A direct way would show the vendor another country, or tell a network what it must not see."""
    assert site(environ={"PROVIDERS_PROXY": ALL}, proxy_variable="LLM_PROXY_URL") == "LLM_PROXY_URL"
    assert proxy("http://localhost:8000", proxy_variable="LLM_PROXY_URL") == ""


@pytest.mark.parametrize(
    "value", ["socks5://user:secret-canary@p:1", "ftp://p.example.com", "p.example.com:3128", "http://a b"]
)
def test_the_file_holds_no_password_and_no_other_kind_of_proxy(value: str) -> None:
    with pytest.raises(InvalidConfig, match=r"providers\.own\.proxy") as caught:
        site(proxy=value)

    assert "canary" not in str(caught.value)


def test_a_password_of_a_proxy_is_never_shown() -> None:
    found = site(environ={"P": "socks5h://user:secret-canary@p.example.com:1080"}, proxy_variable="P")

    assert isinstance(found, Site)
    assert "canary" in found.proxy
    assert "canary" not in repr(found)
