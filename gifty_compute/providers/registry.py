"""From the adapters that logic.yaml names to the providers that speak so."""

from __future__ import annotations

from gifty_compute.engines.inference import Inference
from gifty_compute.logic.file import AdapterName
from gifty_compute.providers.anthropic import AnthropicProvider
from gifty_compute.providers.base import Provider
from gifty_compute.providers.gemini import GeminiProvider
from gifty_compute.providers.intelligence import IntelligenceProvider
from gifty_compute.providers.local import LocalProvider
from gifty_compute.providers.openai_like import OpenaiLikeProvider
from gifty_compute.providers.runpod import RunpodProvider
from gifty_compute.transport.base import Transport

__all__ = ["build_providers"]

_OVER_HTTP = {
    "anthropic": AnthropicProvider,
    "gemini": GeminiProvider,
    "intelligence": IntelligenceProvider,
    "openai_like": OpenaiLikeProvider,
    "runpod": RunpodProvider,
}


def build_providers(transport: Transport, inference: Inference) -> dict[AdapterName, Provider]:
    """One provider for each adapter; several entries of `providers` may share one."""
    over_http: dict[AdapterName, Provider] = {name: kind(transport) for name, kind in _OVER_HTTP.items()}  # type: ignore[misc]
    return {**over_http, "local": LocalProvider(inference)}
