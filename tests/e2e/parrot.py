"""A provider, a proxy and a receiver in one, which repeats to everybody's face what it was told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["REASON", "parrot"]

REASON = "cannot be served in this region"
"""What it says itself, in front of what it repeats."""


@contextmanager
def parrot(word: str) -> Iterator[int]:
    """Its port. `word` is what it takes out of all texts, for places that hold one word alone.

    The first part of a path says in which way it answers: /error, /page, /odd, /stream or /good.
    """

    class Parrot(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard = f"{dict(self.headers)} {body.decode()}"
            [way] = urlsplit(self.path).path.split("/")[1:2]
            status, answer = _ANSWERS[way](heard, word)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status, word)
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("X-Heard", word)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Says nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _error(heard: str, word: str) -> tuple[int, Any]:
    said = {"message": f"{REASON}: {heard}", "type": word, "code": word, "param": word, "status": word}
    return 400, {"error": {**said, "error_type": word, "metadata": {"error_type": word, "raw": heard}}}


def _odd(heard: str, word: str) -> tuple[int, Any]:
    message = {"role": "assistant", "content": "", "refusal": heard, word: word}
    return 200, {
        "id": word,
        "model": word,
        "data": [{"index": 0, "embedding": heard}],
        "results": [{"index": 0, "relevance_score": word}],
        "choices": [{"index": 0, "message": message, "finish_reason": word}],
        "mappings": [{"external_name": heard, word: word}],
        "gift_score": word,
        word: heard,
    }


def _stream(heard: str, word: str) -> tuple[int, bytes]:
    first = {"choices": [{"index": 0, "delta": {"content": "Так"}, "finish_reason": None}]}
    error = {"error": {"message": heard, "code": word, "type": word}}
    return 200, b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in (first, error))


_ANSWERS: dict[str, Any] = {
    "error": _error,
    "page": lambda heard, _: (500, f"<html><title>{REASON}: {heard}</title>{heard}</html>".encode()),
    "odd": _odd,
    "stream": _stream,
    "good": lambda *_: (204, b""),
}
