"""Embeddings beside slow chats in one facade process: how many are refused, and what the chats cost them.

Each round measures the same embeddings twice, without chats and beside them.

python -m benchmarks.places
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click

from benchmarks.report import say_place, say_table
from benchmarks.servers import facade, python_server
from gifty_compute.clock import SystemClock
from gifty_compute.settings import FACADE_THREADS

_LOGIC = """
llm: {default_provider: groq, embedding_provider: openrouter, model_embedding: bge-m3}
embedding: {providers: [openrouter]}
"""
_KEYS = {"GROQ_API_KEY": "key", "OPENROUTER_API_KEY": "key"}
_HEADERS = "Host: facade\r\nAuthorization: Bearer bench-token\r\nContent-Type: application/json\r\n"
_CHAT = {"messages": [{"role": "user", "content": "Что подарить рыбаку?"}]}
# Open before the first round: connecting is not what is measured.
_CONNECTIONS = 64
_PERCENTS = (50, 99)
_clock = SystemClock()
_numbers = itertools.count()


@dataclass
class Found:
    """What became of the calls of one kind."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def ms(self, percent: int) -> float:
        """This percentile of how long the calls took."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1] * 1000


class Client:
    """Calls over connections that are kept open."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, count: int) -> None:
        self._idle += [await self._connect() for _ in range(count)]

    async def call(self, path: str, body: object, found: Found) -> None:
        """One call; notes its status and how long it took."""
        raw = json.dumps(body, ensure_ascii=False).encode()
        head = f"POST {path} HTTP/1.1\r\n{_HEADERS}Content-Length: {len(raw)}\r\n\r\n"
        reader, writer = await self._connection()
        began = _clock.monotonic()
        writer.write(head.encode() + raw)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(answer.partition("content-length: ")[2].split()[0]))
        found.seconds.append(_clock.monotonic() - began)
        found.statuses[int(answer.split()[1])] += 1
        self._idle.append((reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # The server closes those that lay idle for too long.
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await self._connect()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


@asynccontextmanager
async def chats(client: Client, count: int, seconds: float) -> AsyncIterator[Found]:
    """So many are under way as long as the block runs. They begin spread over the seconds that one takes."""
    found, over = Found(), asyncio.Event()

    async def one(number: int) -> None:
        await asyncio.sleep(seconds * number / count)
        while not over.is_set():
            await client.call("/v1/chat/completions", _CHAT, found)

    running = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(2 * seconds)
    yield found
    over.set()
    await asyncio.gather(*running)


async def embeddings(client: Client, per_second: int, seconds: float) -> Found:
    """Calls at an even pace, whether or not those before them are answered."""
    found, running = Found(), []
    began = _clock.monotonic()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - _clock.monotonic()))
        body = {"input": f"чайник для подарка, {next(_numbers)}"}
        running.append(asyncio.create_task(client.call("/v1/embeddings", body, found)))
    await asyncio.gather(*running)
    return found


@dataclass(frozen=True)
class Round:
    alone: Found
    beside: Found
    chats: Found
    load: float

    def ratio(self, percent: int) -> float:
        return self.beside.ms(percent) / self.alone.ms(percent)

    def row(self) -> list[str]:
        times = [f"{found.ms(percent):.1f}" for percent in _PERCENTS for found in (self.alone, self.beside)]
        ratios = [f"{self.ratio(percent):.2f}" for percent in _PERCENTS]
        refused = self.alone.refused + self.beside.refused
        counts = [f"{refused} of {len(self.alone.seconds) + len(self.beside.seconds)}"]
        return [
            *times,
            *ratios,
            *counts,
            f"{self.chats.refused} of {len(self.chats.seconds)}",
            f"{self.load:.1f}",
        ]


async def measure(
    url: str, rounds: int, seconds: float, per_second: int, count: int, think: float
) -> list[Round]:
    client, found = Client(url), []
    await client.open(_CONNECTIONS)
    await embeddings(client, per_second, 2)
    for _ in range(rounds):
        alone = await embeddings(client, per_second, seconds)
        async with chats(client, count, think) as slow:
            beside = await embeddings(client, per_second, seconds)
        found.append(Round(alone, beside, slow, os.getloadavg()[0]))
    return found


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of embeddings, each time.")
@click.option("--per-second", default=100, show_default=True, help="Embeddings.")
@click.option("--chats", "count", default=200, show_default=True, help="Under way at once.")
@click.option("--think", default=3.0, show_default=True, help="Seconds that a chat takes.")
@click.option("--threads", default=FACADE_THREADS, show_default=True)
def main(rounds: int, seconds: float, per_second: int, count: int, think: float, threads: int) -> None:
    """Prints each round, and the medians of the rounds' own ratios."""
    with (
        tempfile.TemporaryDirectory(prefix="gifty-bench-") as folder,
        python_server("benchmarks.slow_upstream", str(think)) as upstream,
    ):
        env = {**_KEYS, "GROQ_API_BASE": upstream.url, "OPENROUTER_API_BASE": upstream.url}
        with facade(Path(folder), _LOGIC, threads=threads, env=env) as server:
            say_place()
            found = asyncio.run(measure(server.url, rounds, seconds, per_second, count, think))
    header = ["p50, ms", "beside", "p99, ms", "beside", "p50", "p99", "refused", "chats refused", "load"]
    say_table(
        f"{per_second} embeddings a second, alone and beside {count} chats",
        header,
        [one.row() for one in found],
    )
    for percent in _PERCENTS:
        ratios = [one.ratio(percent) for one in found]
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        click.echo(f"p{percent} beside / alone: {middle:.2f} ({least:.2f} to {most:.2f})")


if __name__ == "__main__":
    main()
