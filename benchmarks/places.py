"""Embeddings beside slow chats in one process: how many requests are refused, and what the chats cost the embeddings.

Each round measures the same embeddings twice, without chats and with them. `--packaged` computes the embeddings in
the facade, by the packaged model; else an upstream answers them at once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.servers import facade, python_server

_HEADERS = "Host: facade\r\nAuthorization: Bearer bench-token\r\nContent-Type: application/json\r\n"
_CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Что подарить рыбаку?"}]})
_LOGIC = """
llm: {default_provider: groq, embedding_provider: openrouter, model_embedding: bge-m3}
embedding: {providers: [openrouter]}
"""
_PACKAGED = """
llm: {default_provider: groq, embedding_provider: local, model_embedding: multilingual-e5-small}
"""
# A stream of calls finds this many connections open, so that none has to wait for another.
_CONNECTIONS = 64


@dataclass
class Found:
    """What became of one kind of calls."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


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
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        began = time.perf_counter()
        writer.write(head.encode() + raw)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(answer.partition("content-length: ")[2].split()[0]))
        found.seconds.append(time.perf_counter() - began)
        found.statuses[int(answer.split()[1])] += 1
        self._idle.append((reader, writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


@asynccontextmanager
async def chats(client: Client, count: int, seconds: float) -> AsyncIterator[Found]:
    """So many chats are under way as long as the block runs; they do not begin all at once."""
    found, over = Found(), asyncio.Event()

    async def one(number: int) -> None:
        await asyncio.sleep(seconds * number / count)
        while not over.is_set():
            await client.call(*_CHAT, found)

    running = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(2 * seconds)
    yield found
    over.set()
    await asyncio.gather(*running)


async def embeddings(client: Client, per_second: float, seconds: float) -> Found:
    """Calls at an even pace, whether or not those before are answered."""
    found, running = Found(), []
    began = time.perf_counter()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        body = {"input": f"чайник для подарка, {next(_numbers)}"}
        running.append(asyncio.create_task(client.call("/v1/embeddings", body, found)))
    await asyncio.gather(*running)
    return found


_numbers = itertools.count()


async def measure(url: str, asked: argparse.Namespace) -> None:
    client, ratios = Client(url), []
    await client.open(_CONNECTIONS)
    await embeddings(client, asked.per_second, 2)
    for number in range(asked.rounds):
        alone = await embeddings(client, asked.per_second, asked.seconds)
        async with chats(client, asked.chats, asked.think) as slow:
            beside = await embeddings(client, asked.per_second, asked.seconds)
        ratios.append(
            {percent: beside.percentile(percent) / alone.percentile(percent) for percent in (50, 99)}
        )
        shown = [
            f"p{percent} {alone.percentile(percent) * 1000:.1f} -> {beside.percentile(percent) * 1000:.1f} ms"
            for percent in (50, 99)
        ]
        refused = f"refused: {alone.refused + beside.refused} embeddings, {slow.refused} of {len(slow.seconds)} chats"
        print(f"round {number + 1}: {', '.join(shown)}; {refused}; load {os.getloadavg()[0]:.1f}", flush=True)
    for percent in (50, 99):
        found = [ratio[percent] for ratio in ratios]
        print(
            f"p{percent} beside chats / alone: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of embeddings, each time")
    parser.add_argument("--per-second", type=float, default=100, help="embeddings")
    parser.add_argument("--chats", type=int, default=200, help="chats that are under way at once")
    parser.add_argument("--think", type=float, default=3, help="seconds that a chat takes")
    parser.add_argument("--packaged", action="store_true", help="the packaged model computes the embeddings")
    parser.add_argument("--threads", type=int, default=640)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        python_server("benchmarks.slow_upstream", str(asked.think)) as upstream,
    ):
        env = {
            "GROQ_API_KEY": "key",
            "GROQ_API_BASE": upstream.url,
            "OPENROUTER_API_KEY": "key",
            "OPENROUTER_API_BASE": upstream.url,
        }
        logic = _PACKAGED if asked.packaged else _LOGIC
        with facade(Path(folder), logic, threads=asked.threads, env=env) as server:
            asyncio.run(measure(server.url, asked))


if __name__ == "__main__":
    main()
