"""The catalogue that the demo embeds: gift products in Russian, as a shop would list them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["QUESTIONS", "Product", "read_catalogue"]

QUESTIONS = {
    "подарок папе-рыбаку": "Рыбалка и охота",
    "подарок кофеману": "Чай, кофе и сладости",
    "настольная игра для шумной компании": "Настольные игры",
}
"""What the demo asks, and the category that a right answer comes from."""


@dataclass(frozen=True)
class Product:
    """One product of the shop; the price is in roubles."""

    id: str
    title: str
    description: str
    price: int
    category: str

    @property
    def text(self) -> str:
        """What is embedded."""
        return f"{self.title}. {self.description}"


def read_catalogue() -> list[Product]:
    """All products, in the shop's order."""
    lines = files(__package__).joinpath("catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    return [Product(**json.loads(line)) for line in lines]
