"""Cost: what an answer cost, and what is counted for an exchange that gave none."""

from __future__ import annotations

from dataclasses import dataclass

from gifty_compute.logic.logic import Offer
from gifty_compute.providers.base import Reply, Usage
from gifty_compute.providers.meter import Exchanged
from gifty_compute.routing.call import Call

__all__ = ["Cost", "cost_of_exchange", "cost_usd", "lacks_price", "why_no_price"]


@dataclass(frozen=True)
class Cost:
    """US dollars."""

    usd: float
    estimated: bool = False
    """Whether it is our estimate at the stated price, rather than what the provider counted."""


def cost_usd(offer: Offer, reply: Reply) -> float | None:
    """US dollars: what the provider says itself, else its configured price; None where neither is known."""
    found = _known(offer, reply.cost_usd, reply.billed_seconds, reply.usage)
    return None if found is None else found.usd


def cost_of_exchange(offer: Offer, exchanged: Exchanged, elapsed_seconds: float) -> Cost | None:
    """What one request counts for: what the provider says of it, else an estimate at the stated price.

    The estimate is the tokens sent and those heard so far; of a GPU that is billed by time, the time since
    the request began. None where no price is stated.
    """
    said = exchanged
    known = _known(offer, said.cost_usd, said.billed_seconds, said.usage)
    if known is not None:
        return known
    if offer.section.usd_per_second is not None:
        return Cost(elapsed_seconds * offer.section.usd_per_second, estimated=True)
    priced = _at_price(offer, said.tokens)
    return None if priced is None else Cost(priced, estimated=True)


def lacks_price(call: Call, offer: Offer) -> bool:
    """Whether an answer of this offer could not be counted, while a budget of the provider or of the client
    asks for it."""
    section, client = offer.section, call.logic.file.clients.of(call.client)
    if section.budget_usd_per_day is None and client.usd_per_day is None:
        return False
    free = section.adapter == "local"
    return not (free or section.reports_cost or offer.flags.price or section.usd_per_second is not None)


def why_no_price(call: Call, offer: Offer) -> str:
    """What the operator can do where `lacks_price`."""
    name, budgeted = offer.provider, offer.section.budget_usd_per_day is not None
    reason = f"{name} has a budget" if budgeted else f"{call.client} may spend so many dollars a day"
    missing = f"providers.{name}.models.{offer.model_id}.price, or providers.{name}.price for all its models"
    return f"{reason}, and {offer.model_id} has no price to count by; logic.yaml needs {missing}"


def _known(
    offer: Offer, cost: float | None, billed_seconds: float | None, usage: Usage | None
) -> Cost | None:
    if cost is not None:
        return Cost(cost)
    if offer.section.adapter == "local":
        return Cost(0.0)
    if billed_seconds is not None and offer.section.usd_per_second is not None:
        return Cost(billed_seconds * offer.section.usd_per_second)
    priced = None if usage is None else _at_price(offer, usage)
    return None if priced is None else Cost(priced)


def _at_price(offer: Offer, used: Usage) -> float | None:
    price = offer.flags.price
    if price is None:
        return None
    return (used.input_tokens * price.input_per_million + used.output_tokens * price.output_per_million) / 1e6
