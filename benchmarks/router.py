"""The router's own cost: CPU of a call through it beside that of a bare pooled call, in one process.

Bare are the router's own transport, and urllib3's pool, which is what `requests` calls through.

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
import urllib3

from benchmarks.report import say_place, say_table
from benchmarks.servers import nginx
from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.engines.inference import Inference
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
        high = build_high_road(environ, redis_url, Inference(EngineShelf(), clock), clock, Random(1))
        transport, pool_manager = build_transport(), urllib3.PoolManager(maxsize=threads)
        body = {"model": "openai/gpt-oss-20b", **PAYLOAD}
        headers = {"authorization": "Bearer k", "content-type": "application/json"}
        payload = logic.place("llm", PAYLOAD)
        model = logic.model("llm", "fast")

        def bare() -> None:
            request = HttpRequest("POST", upstream.url + "/chat/completions", headers, orjson.dumps(body))
            response = transport.send(request, Deadline.after(10, clock))
            assert orjson.loads(response.body)["choices"][0]["message"]["content"]

        def bare_urllib3() -> None:
            url, body_sent = upstream.url + "/chat/completions", orjson.dumps(body)
            response = pool_manager.request("POST", url, headers=headers, body=body_sent)
            assert orjson.loads(response.data)["choices"][0]["message"]["content"]

        def routed() -> None:
            high.router.run(Call(logic, "llm", model, payload, Deadline.after(10, clock)))

        kinds = {
            "bare call, the router's own transport": bare,
            "bare call, urllib3's pool": bare_urllib3,
            "through the router": routed,
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        with ThreadPoolExecutor(threads) as pool:
            for call in kinds.values():
                _cpu_ms(pool, call, calls)
            say_place()
            for _ in range(rounds):
                for name, call in kinds.items():
                    found[name].append(_cpu_ms(pool, call, calls))
        high.close()
        transport.close()
    *bares, last = found
    rows = [
        [name, f"{statistics.median(found[name]):.3f}", _beside(found[last], found[name])] for name in bares
    ]
    rows.append([last, f"{statistics.median(found[last]):.3f}", ""])
    header = ["", "CPU ms a call", "the router beside it"]
    say_table(f"{threads} threads, canned answers; medians of {rounds} rounds", header, rows)


def _beside(routed: list[float], bare: list[float]) -> str:
    ratios = [one / other for one, other in zip(routed, bare, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def _cpu_ms(pool: ThreadPoolExecutor, call: Callable[[], None], calls: int) -> float:
    began = time.process_time()
    for future in [pool.submit(call) for _ in range(calls)]:
        future.result()
    return (time.process_time() - began) / calls * 1000


if __name__ == "__main__":
    main()
