"""Work that costs nothing: claim and report, over SQL and over HTTP, beside raw SQL and other queues."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from benchmarks.queue import raw
from benchmarks.queue.stand import LOGIC, WANT, Stand, finish, holder
from benchmarks.rounds import Case, compare
from benchmarks.servers import facade
from gifty_compute.perform import TaskSource
from gifty_compute.poll.client import PollClient
from gifty_compute.queue.source import SqlSource

__all__ = ["measure"]

_TASKS = 1000


def measure(stand: Stand, rounds: int, folder: Path, venv: Path | None) -> None:
    """Prints tasks a second from claim to end, a hundred at a time, and the ratios to raw SQL."""

    def bare() -> int:
        return sum(raw.complete(stand, raw.claim(stand)) for _ in range(_TASKS // 100))

    with ExitStack() as stack:
        server = stack.enter_context(facade(folder, LOGIC, env={}, at=(stand.postgres, stand.valkey)))
        client = PollClient(server.url, "internal")
        cases: dict[str, Case] = {
            "raw SQL": bare,
            "store": lambda: _work(source := SqlSource(stand.leases, stand.store), source),
            "store, read": lambda: _work(*(SqlSource(stand.leases, stand.store) for _ in range(2))),
            "bridge": lambda: _work(client, client),
        }
        for peer in ("pgqueuer", "procrastinate") if venv is not None else ():
            assert venv is not None
            cases[peer] = stack.enter_context(_peer(venv, peer, stand))
        stand.empty()
        stand.fill((rounds + 1) * 4 * _TASKS)
        stand.vacuum()
        found = compare(rounds, cases)
    targets = {"store": " (0.75)", "bridge": " (0.4)"}
    for name in cases:
        line = f"  {name:16}{found.rate(name):8.0f} tasks/s, of raw SQL {found.ratio(name, 'raw SQL'):.2f}"
        click.echo(line + targets.get(name, ""))


def _work(claims: TaskSource, reports: TaskSource) -> int:
    """Two sources know nothing of each other: who reports what another claimed reads the tasks again."""
    for _ in range(_TASKS // 100):
        worker = holder()
        claimed = claims.claim(worker, WANT)
        refused = [error for error in reports.report(worker, finish(claimed.tasks)) if error]
        assert len(claimed.tasks) == WANT.limit
        assert not refused, refused
    return _TASKS


@contextmanager
def _peer(venv: Path, name: str, stand: Stand) -> Iterator[Case]:
    """Another queue in a database of its own on the same server; it fills itself before it is timed."""
    stand.create_database(name)
    script = Path(__file__).parent / "peers" / f"{name}_round.py"
    with subprocess.Popen(
        [str(venv / "bin" / "python"), str(script), stand.dsn_of(name), str(_TASKS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def say(word: str) -> str:
            stdin.write(word + "\n")
            stdin.flush()
            answer = stdout.readline().strip()
            if not answer:
                raise SystemExit(f"{script.name} ended")
            return answer

        say("fill")

        def run() -> int:
            return int(say("work"))

        try:
            yield run
        finally:
            stdin.close()
            process.wait(30)
