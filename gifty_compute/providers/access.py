"""Access: where each provider is, and the way and the keys to it."""

from __future__ import annotations

from collections.abc import Mapping

from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Site
from gifty_compute.providers.keys import Keys
from gifty_compute.providers.proxies import lacking_variable, proxy_to

__all__ = ["Access"]

_ENDPOINT = "RUNPOD_ENDPOINT_ID"


class Access:
    """Knows keys and addresses; a provider without a key here is one that cannot be asked."""

    def __init__(self, keys: Keys | Mapping[str, str]) -> None:
        """A mapping stands for keys that never change."""
        self._source = keys if isinstance(keys, Keys) else Keys(keys)

    @property
    def version(self) -> str:
        """Another one as soon as a site may be another."""
        return self._source.version

    @property
    def _environ(self) -> Mapping[str, str]:
        return self._source.current

    def sites(self, offer: Offer) -> tuple[Site, ...]:
        """One site for each key of the offer's provider; none where a key or the address is missing."""
        if self.lacks(offer) is not None:
            return ()
        base_url = self._address(offer).replace("{endpoint}", self._endpoint(offer)).rstrip("/")
        proxy = proxy_to(base_url, offer.section, self._environ)
        if offer.section.adapter == "local" or offer.section.key_variable is None:
            return (Site(base_url, proxy=proxy),)
        return tuple(Site(base_url, str(n), key, proxy) for n, key in enumerate(self._keys(offer), start=1))

    def lacks(self, offer: Offer) -> str | None:
        """The variable without which the offer's provider cannot be asked; None where nothing is missing."""
        section = offer.section
        if section.adapter == "local":
            return None
        if section.key_variable is not None and not self._keys(offer):
            return section.key_variable
        if not self._address(offer):
            return section.base_variable or f"providers.{offer.provider}.base_url"
        if "{endpoint}" in self._address(offer) and not self._endpoint(offer):
            return _ENDPOINT
        return lacking_variable(self._address(offer), section, self._environ)

    def _keys(self, offer: Offer) -> list[str]:
        keys = self._environ.get(offer.section.key_variable or "", "")
        return [key.strip() for key in keys.split(",") if key.strip()]

    def _address(self, offer: Offer) -> str:
        return self._environ.get(offer.section.base_variable or "") or offer.section.base_url or ""

    def _endpoint(self, offer: Offer) -> str:
        return offer.section.endpoints.get(offer.ask_as) or self._environ.get(_ENDPOINT, "")
