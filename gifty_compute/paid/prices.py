"""Prices of low-priority work: the cheapest provider that may be paid, and what a task may cost there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gifty_compute.logic.file import LowSection
from gifty_compute.logic.logic import Offer
from gifty_compute.wire.questions import questions
from gifty_compute.wire.size import CHARACTERS_A_TOKEN, estimated_tokens

__all__ = ["bound_usd", "cheapest", "expected_usd"]

# What language models write where the payload does not bound them.
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


def bound_usd(offer: Offer, kind: str, payload: dict[str, Any]) -> float:
    """What a task of this kind costs at most, all attempts together: a token has at least one character.

    A classification or a score by a language model is several questions, and each may be asked once more with
    the wrong answer in it.
    """
    if offer.ask_as == "llm" and kind != "llm":
        asked = [question.payload for question in questions(kind, payload)]
        read = sum(_most_tokens(one) for one in asked)
        written = sum(_most_written(one) for one in asked)
        return _usd(offer, 2 * read + written, 2 * written) * _MOST_ATTEMPTS
    written = _most_written(payload) if offer.ask_as == "llm" else 0
    return _usd(offer, _most_tokens(payload), written) * _MOST_ATTEMPTS


def _most_tokens(payload: dict[str, Any]) -> int:
    return (estimated_tokens(payload) + 1) * CHARACTERS_A_TOKEN + _TOKENS_AROUND


def _most_written(payload: dict[str, Any]) -> int:
    return int(payload.get("max_tokens") or _OUTPUT_TOKENS)


def _usd(offer: Offer, tokens_in: float, tokens_out: float) -> float:
    price = offer.flags.price
    if price is None:
        raise ValueError(f"{offer.provider} has no price for {offer.model_id}")
    return (tokens_in * price.input_per_million + tokens_out * price.output_per_million) / 1e6


def _price(offer: Offer) -> float:
    price = offer.flags.price
    return price.input_per_million + price.output_per_million if price is not None else 0.0
