"""An upstream like one GPU: one batch at a time, 20 ms a batch and 1 ms a text. `PORT`.

It speaks Gifty's Intelligence API and answers vectors of 1,024 numbers.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_GPU = threading.Lock()
_PAUSE = threading.Event()
_VECTOR = json.dumps([0.03125] * 1024)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True  # else head and body wait 40 ms for each other

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        with _GPU:
            _PAUSE.wait(0.020 + 0.001 * len(texts))
        rows = ",".join(f'{{"index":{i},"embedding":{_VECTOR}}}' for i in range(len(texts)))
        self._answer(f'{{"data":[{rows}],"model":"bge-m3"}}'.encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    _Server(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
