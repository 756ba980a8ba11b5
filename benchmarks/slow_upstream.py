"""An upstream that thinks before each chat and answers embeddings at once, for as many callers as come.

Arguments: PORT SECONDS.
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks.servers import CHAT, EMBEDDING


def _answer(body: object) -> bytes:
    raw = json.dumps(body, ensure_ascii=False).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(raw) + raw


_CHAT, _EMBEDDING = _answer(CHAT), _answer(EMBEDDING)


async def serve(port: int, seconds: float) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                quick = b"/embeddings " in head.partition(b"\r\n")[0]
                if head.startswith(b"POST") and not quick:
                    await asyncio.sleep(seconds)
                writer.write(_EMBEDDING if quick else _CHAT)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
