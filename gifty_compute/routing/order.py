"""Order: who is asked first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from gifty_compute.routing.call import Call
from gifty_compute.routing.guard import Candidate

__all__ = ["Ordering"]


class Ordering:
    """Sorts the candidates of a call by what `order` of the kind's section says, the keys of each in turn."""

    def __init__(self, seconds: Callable[[Candidate, Call], float]) -> None:
        """`seconds` is how long a candidate's answers to such calls took lately."""
        self._seconds = seconds
        self._turns = itertools.count()

    def sort(self, call: Call, candidates: Sequence[Candidate]) -> list[Candidate]:
        """All of them, best first; those that the call wants last come last."""
        turned = self._turned(candidates)
        order = call.logic.section(call.kind).order
        if order == "fastest":
            turned.sort(key=lambda candidate: self._seconds(candidate, call))
        elif order == "cheapest":
            turned.sort(key=_price)
        return sorted(turned, key=lambda candidate: candidate.name in call.last)

    def _turned(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        turn = next(self._turns)
        result: list[Candidate] = []
        for _, same in itertools.groupby(candidates, key=lambda candidate: candidate.name):
            keys = list(same)
            start = turn % len(keys)
            result += keys[start:] + keys[:start]
        return result


def _price(candidate: Candidate) -> float:
    """Dollars for a million tokens in and out; what nobody knows comes last, what costs nothing first."""
    price = candidate.offer.flags.price
    if price is not None:
        return price.input_per_million + price.output_per_million
    return 0.0 if candidate.offer.section.adapter == "local" else math.inf
