"""The router's own cost: CPU of a call through it beside that of a bare pooled call, in one process.

python -m benchmarks.router
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import click
import orjson

from benchmarks.report import say_place, say_table
from benchmarks.servers import nginx
from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.high import build_high_road
from gifty_compute.logic.source import parse_logic
from gifty_compute.routing.call import Call
from gifty_compute.transport import build_transport
from gifty_compute.transport.base import HttpRequest

PAYLOAD = {"messages": [{"role": "user", "content": "Что подарить рыбаку на юбилей?"}], "max_tokens": 100}


@click.command()
@click.option("--rounds", default=9, show_default=True)
@click.option("--calls", default=1500, show_default=True, help="A round, of each kind.")
@click.option("--threads", default=8, show_default=True)
def main(rounds: int, calls: int, threads: int) -> None:
    """Prints the medians and their ratio."""
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder, nginx(Path(folder)) as upstream:
        clock, logic = SystemClock(), parse_logic("llm: {default_provider: groq}")
        environ = {"GROQ_API_KEY": "k", "GROQ_API_BASE": upstream.url}
        redis_url = "redis://127.0.0.1:1/0"  # nothing of this is switched on
        high = build_high_road(environ, redis_url, EngineShelf(), clock, Random(1))
        transport = build_transport()
        body = {"model": "openai/gpt-oss-20b", **PAYLOAD}
        headers = {"authorization": "Bearer k", "content-type": "application/json"}
        payload = logic.place("llm", PAYLOAD)
        model = logic.model("llm", "fast")

        def bare() -> None:
            request = HttpRequest("POST", upstream.url + "/chat/completions", headers, orjson.dumps(body))
            response = transport.send(request, Deadline.after(10, clock))
            assert orjson.loads(response.body)["choices"][0]["message"]["content"]

        def routed() -> None:
            high.router.run(Call(logic, "llm", model, payload, Deadline.after(10, clock)))

        found: dict[str, list[float]] = {"bare": [], "routed": []}
        with ThreadPoolExecutor(threads) as pool:
            for call in (bare, routed):
                _cpu_ms(pool, call, calls)
            say_place()
            for _ in range(rounds):
                for name, call in (("bare", bare), ("routed", routed)):
                    found[name].append(_cpu_ms(pool, call, calls))
        high.close()
        transport.close()
    ratios = [routed / bare for bare, routed in zip(found["bare"], found["routed"], strict=True)]
    rows = [
        ["bare pooled call", f"{statistics.median(found['bare']):.3f}", ""],
        [
            "through the router",
            f"{statistics.median(found['routed']):.3f}",
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})",
        ],
    ]
    header = ["", "CPU ms a call", "of the bare one"]
    say_table(f"{threads} threads, canned answers; medians of {rounds} rounds", header, rows)


def _cpu_ms(pool: ThreadPoolExecutor, call: Callable[[], None], calls: int) -> float:
    began = time.process_time()
    for future in [pool.submit(call) for _ in range(calls)]:
        future.result()
    return (time.process_time() - began) / calls * 1000


if __name__ == "__main__":
    main()
