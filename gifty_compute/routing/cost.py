"""Cost: what an answer cost, as far as anybody knows."""

from __future__ import annotations

from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Reply

__all__ = ["cost_usd"]


def cost_usd(offer: Offer, reply: Reply) -> float | None:
    """US dollars: what the provider says itself, else its configured price; None where neither is known."""
    if reply.cost_usd is not None:
        return reply.cost_usd
    if offer.section.adapter == "local":
        return 0.0
    if reply.billed_seconds is not None and offer.section.usd_per_second is not None:
        return reply.billed_seconds * offer.section.usd_per_second
    price = offer.flags.price
    if price is None or reply.usage is None:
        return None
    return (
        reply.usage.input_tokens * price.input_per_million
        + reply.usage.output_tokens * price.output_per_million
    ) / 1e6
