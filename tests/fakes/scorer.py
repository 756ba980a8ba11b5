"""An OpenAI-compatible server whose model `acme/scorer` gives every product the same score."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gifty_compute.wire.score import AXES

__all__ = ["scorer"]

SCORE = {
    "gift_score": 8,
    "reasoning": "Уютный подарок.",
    "tags": ["дом"],
    "gift_vector": {**dict.fromkeys(AXES[:8], 0.5), "age_suitability": None, "gender_bias": 0.5},
}


@contextmanager
def scorer() -> Iterator[str]:
    """Its address, as an OpenAI client takes it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"object": "list", "data": [{"id": "acme/scorer"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            message = {"role": "assistant", "content": json.dumps(SCORE, ensure_ascii=False)}
            choice = {"message": message, "finish_reason": "stop", "index": 0}
            self._answer({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
