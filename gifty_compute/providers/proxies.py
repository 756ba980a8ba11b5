"""The proxy on the way to a provider: its own, or the one for all; none to local addresses."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from gifty_compute.logic.file import ProviderSection
from gifty_compute.wire.host import Host, read_host

__all__ = ["lacking_variable", "proxy_to"]

_FOR_ALL = "PROVIDERS_PROXY"
_NONE = "none"
# Names that are looked up on this network alone.
_NEAR_ENDS = (".local", ".internal")


def proxy_to(base_url: str, section: ProviderSection, environ: Mapping[str, str]) -> str:
    """The address of the proxy that leads to a provider; empty where it is reached directly.

    This machine is always reached directly. An address or a name of this network is reached by a proxy only
    where the provider's section names one: the proxy for all providers leads out of the network.
    """
    host = _host_of(base_url)
    if _is_this_machine(host):
        return ""
    own = environ.get(section.proxy_variable or "") or section.proxy
    proxy = own or ("" if _is_near(host) else environ.get(_FOR_ALL, ""))
    return "" if proxy == _NONE else proxy


def lacking_variable(base_url: str, section: ProviderSection, environ: Mapping[str, str]) -> str | None:
    """The variable of the section's proxy where it is not set and nothing else says which way to take.

    Without it the provider is not asked: a direct way may be one that must not be taken.
    """
    named = section.proxy_variable
    if named is None or environ.get(named) or section.proxy or _is_this_machine(_host_of(base_url)):
        return None
    return named


def _host_of(base_url: str) -> Host:
    try:
        host = urlsplit(base_url).hostname or ""
        found = read_host(f"[{host}]" if ":" in host else host)
    except ValueError:
        return ""
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _is_this_machine(host: Host) -> bool:
    if isinstance(host, str):
        return host == "localhost" or host.endswith(".localhost")
    return host.is_loopback or host.is_unspecified


def _is_near(host: Host) -> bool:
    if isinstance(host, str):
        return "." not in host or host.endswith(_NEAR_ENDS)
    return host.is_private or host.is_link_local
