"""What a request through this facade costs beside its peers, all in one run on one machine.

    python -m benchmarks.gateways --litellm VENV --portkey FOLDER

Each round asks each server in turn with the same load, so that a busy neighbour hurts all alike. Printed are
medians over the rounds, and ratios.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.load import Load, Round, median, rss_mib
from benchmarks.servers import Server, facade, litellm, nginx, portkey, python_server

LOGIC = "llm: {default_provider: groq}"
BODY: dict[str, object] = {
    "model": "fast",
    "messages": [{"role": "user", "content": "Что подарить рыбаку на юбилей?"}],
    "max_tokens": 100,
}
OURS = {"Authorization": "Bearer bench-token"}


@click.command()
@click.option(
    "--litellm", "venv", type=click.Path(exists=True, path_type=Path), help="A venv with litellm[proxy]."
)
@click.option(
    "--portkey",
    "node",
    type=click.Path(exists=True, path_type=Path),
    help="Where npm put @portkey-ai/gateway.",
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=6, show_default=True)
@click.option("--slow/--no-slow", default=True, help="Also 400 callers of a slow upstream.")
def main(venv: Path | None, node: Path | None, rounds: int, seconds: int, slow: bool) -> None:
    """Measures and prints two tables."""
    with tempfile.TemporaryDirectory(prefix="gifty-bench-") as name:
        folder = Path(name)
        fast(folder, venv, node, rounds, seconds)
        if slow:
            waiting(folder, rounds, seconds)


def fast(folder: Path, venv: Path | None, node: Path | None, rounds: int, seconds: int) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(nginx(folder / "nginx"))
        servers: dict[str, tuple[Server, Load]] = {
            "upstream": (upstream, Load(upstream.url + "/chat/completions", BODY, {}))
        }
        env = {"GROQ_API_KEY": "k", "GROQ_API_BASE": upstream.url}
        ours = stack.enter_context(facade(folder, LOGIC, env=env))
        servers["gifty-compute"] = ours, Load(ours.url + "/v1/chat/completions", BODY, OURS)
        if venv is not None:
            peer = stack.enter_context(litellm(venv, folder, upstream.url))
            headers = {"Authorization": "Bearer sk-bench"}
            servers["litellm proxy"] = peer, Load(peer.url + "/v1/chat/completions", BODY, headers)
        if node is not None:
            peer = stack.enter_context(portkey(node))
            headers = {
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": upstream.url,
                "Authorization": "Bearer k",
            }
            servers["portkey"] = peer, Load(peer.url + "/v1/chat/completions", BODY, headers)
        many: dict[str, list[Round]] = {name: [] for name in servers}
        lone: dict[str, list[Round]] = {name: [] for name in servers}
        for _, load in servers.values():
            load.warm(callers=32, seconds=5)
        for _ in range(rounds):
            for name, (server, load) in servers.items():
                many[name].append(load.run(callers=32, seconds=seconds, server=server.psutil))
                lone[name].append(load.run(callers=1, seconds=max(2, seconds // 2), server=server.psutil))
        memory = {name: rss_mib(server.psutil) for name, (server, _) in servers.items()}
    click.echo(f"\n32 callers and one, canned answers, medians of {rounds} rounds")
    click.echo(
        f"{'':16}{'req/s':>9}{'CPU ms/req':>12}{'req/s/core':>12}"
        f"{'p50 of 32':>11}{'added p50 of 1':>16}{'MiB':>7}"
    )
    base = median(lone["upstream"], "p50_ms")
    for name in servers:
        cpu = median(many[name], "cpu_ms")
        added = median(lone[name], "p50_ms") - base
        click.echo(
            f"{name:16}{median(many[name], 'per_second'):9.0f}{cpu:12.3f}{1000 / cpu:12.0f}"
            f"{median(many[name], 'p50_ms'):9.1f}ms{added:14.2f}ms{memory[name]:7.0f}"
        )
    for name in servers:
        if name in ("upstream", "gifty-compute"):
            continue
        cpu = median(many[name], "cpu_ms") / median(many["gifty-compute"], "cpu_ms")
        added = (median(lone[name], "p50_ms") - base) / (median(lone["gifty-compute"], "p50_ms") - base)
        click.echo(f"{name}: {cpu:.1f}x our CPU per request, {added:.1f}x our added p50 of one caller")


def waiting(folder: Path, rounds: int, seconds: int) -> None:
    with ExitStack() as stack:
        upstream = stack.enter_context(python_server("benchmarks.slow_upstream", "1.0"))
        env = {"GROQ_API_KEY": "k", "GROQ_API_BASE": upstream.url}
        second = folder / "slow"
        second.mkdir()
        ours = stack.enter_context(facade(second, LOGIC, workers=2, threads=256, env=env))
        direct = Load(upstream.url + "/chat/completions", BODY, {})
        through = Load(ours.url + "/v1/chat/completions", BODY, OURS)
        through.warm(callers=400, seconds=5)
        bare: list[Round] = []
        routed: list[Round] = []
        for _ in range(rounds):
            bare.append(direct.run(callers=400, seconds=2 * seconds, server=upstream.psutil))
            routed.append(through.run(callers=400, seconds=2 * seconds, server=ours.psutil))
        memory = rss_mib(ours.psutil)
    throughput = median(routed, "per_second") / median(bare, "per_second")
    p50 = median(routed, "p50_ms") / median(bare, "p50_ms")
    click.echo(f"\n400 in flight on an upstream of 1 s, 2 workers, medians of {rounds} rounds")
    click.echo(
        f"throughput {throughput:.1%} of the upstream's own, p50 {p50:.3f}x, {memory:.0f} MiB, "
        f"{median(routed, 'cpu_ms'):.2f} ms CPU a request"
    )


if __name__ == "__main__":
    main()
