"""Prices of low-priority work: the cheapest provider that may be paid, and what a task may cost there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gifty_compute.logic.file import LowSection
from gifty_compute.logic.logic import Offer
from gifty_compute.wire.size import CHARACTERS_A_TOKEN, estimated_tokens

__all__ = ["bound_usd", "cheapest", "expected_usd"]

# What language models write where the payload does not bound them: a score, a mapping, an answer.
_OUTPUT_TOKENS = 1024
# Special tokens, prefixes, instructions of ours around each text or product.
_TOKENS_AROUND = 2000
# The router may try twice; a call that was given up can be billed all the same.
_MOST_ATTEMPTS = 2


def cheapest(policy: LowSection, offers: Iterable[Offer]) -> tuple[Offer | None, str]:
    """The cheapest of these that may be paid, or None and the reason.

    One whose price nobody knows is never paid: its cost could not be kept below any bound.
    """
    if not policy.paid:
        return None, "low.<type>.paid does not allow paid work"
    allowed = [
        offer
        for offer in offers
        if offer.section.adapter != "local"
        and (policy.providers is None or offer.provider in policy.providers)
    ]
    priced = [offer for offer in allowed if offer.flags.price is not None]
    if not priced:
        named = ", ".join(sorted({offer.provider for offer in allowed}))
        return None, f"no price is configured for {named}" if named else "no paid provider can be asked"
    return min(priced, key=_price), ""


def expected_usd(offer: Offer, tokens: float) -> float:
    """What a task of about so many tokens is likely to cost."""
    return _usd(offer, tokens, _OUTPUT_TOKENS if offer.ask_as == "llm" else 0)


def bound_usd(offer: Offer, payload: dict[str, Any]) -> float:
    """What a task costs at most, all attempts together: a token has at least one character."""
    characters = (estimated_tokens(payload) + 1) * CHARACTERS_A_TOKEN
    output = int(payload.get("max_tokens") or _OUTPUT_TOKENS) if offer.ask_as == "llm" else 0
    return _usd(offer, characters + _TOKENS_AROUND, output) * _MOST_ATTEMPTS


def _usd(offer: Offer, tokens_in: float, tokens_out: float) -> float:
    price = offer.flags.price
    if price is None:
        raise ValueError(f"{offer.provider} has no price for {offer.model_id}")
    return (tokens_in * price.input_per_million + tokens_out * price.output_per_million) / 1e6


def _price(offer: Offer) -> float:
    price = offer.flags.price
    return price.input_per_million + price.output_per_million if price is not None else 0.0
