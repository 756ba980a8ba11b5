"""What a request through this facade costs beside its peers, all in one run on one machine.

    python -m benchmarks.gateways [--slow]

Each round asks each server in turn with the same load, so that a busy neighbour hurts all alike. Printed are
medians over the rounds, and ratios.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.load import Load, Memory, Round, median, memory_of
from benchmarks.peers import litellm_venv, portkey_folder
from benchmarks.report import say_place, say_table
from benchmarks.servers import Server, facade, litellm, nginx, portkey, python_server

LOGIC = "llm: {default_provider: groq, embedding_provider: intelligence_api}"
CHAT: dict[str, object] = {
    "model": "fast",
    "messages": [{"role": "user", "content": "Что подарить рыбаку на юбилей?"}],
    "max_tokens": 100,
}
EMBEDDING: dict[str, object] = {"model": "bge-m3", "input": "Термокружка, 450 мл"}
BODIES = {"chat": ("/chat/completions", CHAT), "one embedding": ("/embeddings", EMBEDDING)}
OURS = {"Authorization": "Bearer bench-token"}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=5, show_default=True, help="Of a round with 32 callers.")
@click.option("--slow", is_flag=True, help="400 callers of an upstream that takes a second, instead.")
def main(rounds: int, seconds: int, slow: bool) -> None:
    """Measures and prints a table."""
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder:
        measure = _waiting if slow else _beside_peers
        measure(Path(folder), rounds, seconds)


@dataclass
class _Peer:
    """A server, how it is asked, and what was found in the rounds."""

    server: Server
    base: str
    headers: dict[str, str]
    kinds: tuple[str, ...] = tuple(BODIES)
    many: dict[str, list[Round]] = field(default_factory=lambda: {kind: [] for kind in BODIES})
    lone: dict[str, list[Round]] = field(default_factory=lambda: {kind: [] for kind in BODIES})

    def load(self, kind: str) -> Load:
        path, body = BODIES[kind]
        return Load(self.base + path, body, self.headers)

    def p50_of_one(self, kind: str) -> float:
        return median(self.lone[kind], "p50_ms")


def _beside_peers(folder: Path, rounds: int, seconds: int) -> None:
    venv, node = litellm_venv(), portkey_folder()
    with ExitStack() as stack:
        peers = _start(stack, folder, venv, node)
        for peer in peers.values():
            for kind in peer.kinds:
                peer.load(kind).warm(callers=32, seconds=3)
        say_place()
        for _ in range(rounds):
            for kind in BODIES:
                for peer in (one for one in peers.values() if kind in one.kinds):
                    load = peer.load(kind)
                    peer.many[kind].append(load.run(callers=32, seconds=seconds, server=peer.server.psutil))
                    peer.lone[kind].append(load.run(callers=1, seconds=3, server=peer.server.psutil))
        memory = {name: memory_of(peer.server.psutil) for name, peer in peers.items()}
    for kind in BODIES:
        _say(kind, rounds, {name: peer for name, peer in peers.items() if kind in peer.kinds}, memory)


def _start(stack: ExitStack, folder: Path, venv: Path, node: Path | None) -> dict[str, _Peer]:
    """All servers, by name; each one's requests end at the same upstream."""
    upstream = stack.enter_context(nginx(folder / "nginx"))
    env = {
        "GROQ_API_KEY": "k",
        "GROQ_API_BASE": upstream.url,
        "INTELLIGENCE_API_TOKEN": "k",
        "INTELLIGENCE_API_BASE": upstream.url,
    }
    ours = stack.enter_context(facade(folder, LOGIC, env=env))
    lite = stack.enter_context(litellm(venv, folder, upstream.url))
    peers = {
        "upstream itself": _Peer(upstream, upstream.url, {}),
        "gifty-compute": _Peer(ours, ours.url + "/v1", OURS),
        "LiteLLM proxy": _Peer(lite, lite.url + "/v1", {"Authorization": "Bearer sk-bench"}),
    }
    if node is not None:
        gate = stack.enter_context(portkey(node))
        to = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream.url}
        # It answers embeddings with 500, "TypeError: immutable", under Node 20.
        headers = {**to, "Authorization": "Bearer k"}
        peers["Portkey gateway"] = _Peer(gate, gate.url + "/v1", headers, kinds=("chat",))
    return peers


def _say(kind: str, rounds: int, peers: dict[str, _Peer], memory: dict[str, Memory]) -> None:
    upstream, ours = peers["upstream itself"], peers["gifty-compute"]
    base = upstream.p50_of_one(kind)
    our_cpu, our_added = median(ours.many[kind], "cpu_ms"), ours.p50_of_one(kind) - base
    rows = []
    for name, peer in peers.items():
        cpu, added = median(peer.many[kind], "cpu_ms"), peer.p50_of_one(kind) - base
        beside = peer is not upstream
        rows.append(
            [
                name,
                f"{median(peer.many[kind], 'per_second'):.0f}",
                f"{cpu:.3f}",
                f"{1000 / cpu:.0f}",
                f"{cpu / our_cpu:.1f}x" if beside else "",
                f"{added:.2f}" if beside else "",
                f"{added / our_added:.1f}x" if beside else "",
                str(memory[name]),
            ]
        )
    header = ["", "req/s", "CPU ms a request", "req/s a core", "CPU", "added p50 of one, ms", "p50", "MiB"]
    title = f"{kind}: 32 callers, and one; canned answers; medians of {rounds} rounds; MiB: PSS (RSS)"
    say_table(title, header, rows)
    lite = peers["LiteLLM proxy"]
    each = [found.cpu_ms / mine.cpu_ms for found, mine in zip(lite.many[kind], ours.many[kind], strict=True)]
    click.echo(
        f"\nLiteLLM's CPU a request over ours, round by round: {', '.join(f'{one:.1f}' for one in each)}"
    )


def _waiting(folder: Path, rounds: int, seconds: int) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(python_server("benchmarks.slow_upstream", "1.0"))
        env = {"GROQ_API_KEY": "k", "GROQ_API_BASE": upstream.url}
        ours = stack.enter_context(facade(folder, LOGIC, workers=2, threads=256, env=env))
        idle = memory_of(ours.psutil)
        direct = Load(upstream.url + "/chat/completions", CHAT, {})
        through = Load(ours.url + "/v1/chat/completions", CHAT, OURS)
        through.warm(callers=400, seconds=3)
        say_place()
        bare: list[Round] = []
        routed: list[Round] = []
        loaded: list[Memory] = []
        for _ in range(rounds):
            # What one round leaves in flight has ended before its own kind comes again.
            bare.append(direct.run(callers=400, seconds=2 * seconds, server=upstream.psutil))
            routed.append(through.run(callers=400, seconds=2 * seconds, server=ours.psutil))
            loaded.append(memory_of(ours.psutil))
    rows = [
        _slow_row("upstream itself", bare, bare, None),
        _slow_row("gifty-compute", routed, bare, loaded),
    ]
    header = ["", "req/s", "of the upstream's", "p50, ms", "of the upstream's", "CPU ms a request", "MiB"]
    title = (
        f"400 callers of an upstream of 1 s, 2 workers of 256 threads; medians of {rounds} rounds; PSS (RSS)"
    )
    say_table(title, header, rows)
    click.echo(f"\nidle, before the first request: {idle} MiB")


def _slow_row(name: str, rounds: list[Round], bare: list[Round], memory: list[Memory] | None) -> list[str]:
    rate, p50 = median(rounds, "per_second"), median(rounds, "p50_ms")
    most = Memory(*(max(getattr(one, part) for one in memory) for part in ("pss", "rss"))) if memory else None
    return [
        name,
        f"{rate:.0f}",
        f"{rate / median(bare, 'per_second'):.1%}",
        f"{p50:.0f}",
        f"{p50 / median(bare, 'p50_ms'):.3f}x",
        f"{statistics.median(one.cpu_ms for one in rounds):.2f}",
        str(most) if most else "",
    ]


if __name__ == "__main__":
    main()
