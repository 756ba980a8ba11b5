"""Single texts of 32 callers on an upstream like one GPU, with and without micro-batching.

python -m benchmarks.microbatch
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.load import Load, Round, median
from benchmarks.report import say_place, say_table
from benchmarks.servers import facade, python_server

LOGIC = "llm: {embedding_provider: intelligence_api}\nembedding: {timeout_ms: 10000}\n"
MODES = {"one by one": LOGIC, "micro-batched": LOGIC + "routing: {microbatch: {}}\n"}
BODY: dict[str, object] = {"input": "Термокружка, 450 мл", "encoding_format": "base64"}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=5, show_default=True)
def main(rounds: int, seconds: int) -> None:
    """Prints the throughput of both and their ratio."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gifty-bench-")))
        upstream = stack.enter_context(python_server("benchmarks.gpu_upstream"))
        env = {"INTELLIGENCE_API_TOKEN": "k", "INTELLIGENCE_API_BASE": upstream.url}
        loads: dict[str, Load] = {}
        for number, (mode, logic) in enumerate(MODES.items()):
            place = folder / str(number)
            place.mkdir()
            server = stack.enter_context(facade(place, logic, env=env))
            headers = {"Authorization": "Bearer bench-token"}
            loads[mode] = Load(server.url + "/v1/embeddings", BODY, headers)
            loads[mode].warm(callers=32, seconds=2)
        say_place()
        many: dict[str, list[Round]] = {mode: [] for mode in MODES}
        lone: dict[str, list[Round]] = {mode: [] for mode in MODES}
        for _ in range(rounds):
            for mode, load in loads.items():
                lone[mode].append(load.run(callers=1, seconds=2, server=None))
                many[mode].append(load.run(callers=32, seconds=seconds, server=None))
    slowest = median(many["one by one"], "per_second")
    rows = [
        [
            mode,
            f"{median(many[mode], 'per_second'):.0f}",
            f"{median(many[mode], 'per_second') / slowest:.1f}x",
            f"{median(many[mode], 'p50_ms'):.0f}",
            f"{median(lone[mode], 'p50_ms'):.1f}",
        ]
        for mode in MODES
    ]
    header = ["", "req/s", "", "p50 of 32, ms", "p50 of one, ms"]
    say_table(f"One GPU: 20 ms a call and 1 ms a text; medians of {rounds} rounds", header, rows)


if __name__ == "__main__":
    main()
