"""Access: where each provider is, and the keys to it, from the environment as it was at the start."""

from __future__ import annotations

from collections.abc import Mapping

from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Site

__all__ = ["Access"]


class Access:
    """Knows the environment; a provider without a key here is one that cannot be asked."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    def sites(self, offer: Offer) -> tuple[Site, ...]:
        """One site for each key of the offer's provider; none where a key or the address is missing."""
        section = offer.section
        if section.adapter == "local":
            return (Site(base_url=""),)
        said = self._environ.get(section.base_variable or "") or section.base_url
        endpoint = section.endpoints.get(offer.ask_as) or self._environ.get("RUNPOD_ENDPOINT_ID", "")
        if said is None or ("{endpoint}" in said and not endpoint):
            return ()
        base_url = said.replace("{endpoint}", endpoint).rstrip("/")
        keys = self._environ.get(section.key_variable, "") if section.key_variable else ""
        named = [key.strip() for key in keys.split(",") if key.strip()]
        if section.key_variable is None:
            return (Site(base_url),)
        return tuple(Site(base_url, str(number), key) for number, key in enumerate(named, start=1))
