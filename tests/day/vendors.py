"""The providers of the scripted day, and the book of what each of them was asked and has charged."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Self

import numpy as np

from gifty_compute.clock import Clock
from tests.fakes.vectors import vector

__all__ = ["PRICE_INPUT", "PRICE_OUTPUT", "Charge", "Vendors"]

PRICE_INPUT, PRICE_OUTPUT = 10.0, 100.0
"""US dollars for a million tokens, as logic.yaml says for every model of the day."""

_PIECES = ("Подарите ", "удочку", ", ", "термос ", "или ", "книгу", ".")
_PAGE = b"<html><body>502 Bad Gateway</body></html>"
_THOUGHTS = 12
_PACE_SECONDS = 0.2


@dataclass(frozen=True)
class Charge:
    """One request at a provider; moments are of the clock's `now`, as seconds since the epoch."""

    provider: str
    kind: str
    began: float
    ended: float | None = None
    usd: float = 0.0
    """What the answer said that it cost."""
    behaviour: str = ""


class Vendors:
    """One HTTP server, each provider below a path of its own; what each request meets is drawn by `rng`.

    calm answers. moody stalls for now and then. busy says 429 over its own limit of a minute. deep thinks
    before each text. greedy counts many more tokens than it wrote. liar breaks the form of chats, and gives
    vectors of another space.
    """

    NAMES = ("calm", "moody", "busy", "deep", "greedy", "liar")
    BUSY_REQUESTS_PER_MINUTE = 20

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock, self._rng = clock, rng
        self._lock = threading.Lock()
        self._charges: list[Charge] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.vendors = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def base_url(self, provider: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{provider}/v1"

    def charges(self, provider: str | None = None) -> list[Charge]:
        """All requests so far, or those of one provider, in the order in which they came."""
        with self._lock:
            return [one for one in self._charges if provider in (None, one.provider)]

    def begin(self, provider: str, kind: str) -> tuple[int, str]:
        """Notes a request; its number, and how it is to be treated."""
        with self._lock:
            behaviour = self._behaviour(provider, kind)
            now = self._clock.now().timestamp()
            self._charges.append(Charge(provider, kind, now, behaviour=behaviour))
            return len(self._charges) - 1, behaviour

    def end(self, number: int, usd: float) -> None:
        """Notes what the answer to a request has charged; called when the last byte of it was written."""
        with self._lock:
            now = self._clock.now().timestamp()
            self._charges[number] = replace(self._charges[number], ended=now, usd=usd)

    def _behaviour(self, provider: str, kind: str) -> str:
        chance = self._rng.random()
        match provider:
            case "moody" if chance < 0.3:
                return "stall"
            case "busy" if self._recent("busy") >= self.BUSY_REQUESTS_PER_MINUTE:
                return "429"
            case "deep" if kind == "llm":
                return "think"
            case "greedy" if chance < 0.5:
                return "overcharge"
            case "liar" if kind == "embedding":
                return "rotated"
            case "liar":
                return self._rng.choice(("page", "cut", "broken", "empty"))
        return "answer"

    def _recent(self, provider: str) -> int:
        minute = self._clock.now().timestamp() // 60
        same = (one for one in reversed(self._charges) if one.provider == provider)
        return sum(one.began // 60 == minute and one.behaviour != "429" for one in same)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    vendors: Vendors


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider, _, path = self.path.lstrip("/").partition("/")
        kind = "embedding" if path.endswith("/embeddings") else "llm"
        vendors = self.server.vendors
        number, behaviour = vendors.begin(provider, kind)
        tokens = _tokens(body, behaviour)
        usd = 0.0
        try:
            usd = self._treat(behaviour, kind, body, tokens)
        except ConnectionError:
            self.close_connection = True
        finally:
            vendors.end(number, usd)

    def _treat(self, behaviour: str, kind: str, body: dict[str, Any], tokens: tuple[int, int]) -> float:
        """Answers; what the answer says that it cost, in US dollars, 0 where it says nothing."""
        usd = (tokens[0] * PRICE_INPUT + tokens[1] * PRICE_OUTPUT) / 1e6
        match behaviour:
            case "stall":
                # As long as the other side waits: a provider that has died with an open connection.
                self._until_left()
                self.close_connection = True
                return 0.0
            case "429":
                self._send(429, _error("slow down", "rate_limit_exceeded"), {"retry-after": "7"})
                return 0.0
            case "page":
                self._send(502, _PAGE, {"retry-after": "3600"}, kind="text/html")
                return 0.0
            case "empty":
                self._send(200, {})
                return 0.0
            case "broken":
                self._send(200, _PAGE, kind="text/html")
                return 0.0
        if kind == "embedding":
            self._send(200, _vectors(body, tokens, rotated=behaviour == "rotated"))
        elif body.get("stream"):
            self._stream(body, tokens, behaviour)
            # What was charged is told in the last chunk: a stream that is cut does not tell it.
            return 0.0 if behaviour == "cut" else usd
        else:
            if behaviour == "think":
                self.server.vendors.closing.wait(_THOUGHTS * _PACE_SECONDS / 2)
            self._send(200, _chat(body, tokens, cut=behaviour == "cut"))
        return usd

    def _stream(self, body: dict[str, Any], tokens: tuple[int, int], behaviour: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if behaviour == "think":
            for _ in range(_THOUGHTS):
                self._event(_chunk(body, {"reasoning_content": "думаю "}))
                self.server.vendors.closing.wait(_PACE_SECONDS)
        for piece in _PIECES:
            self._event(_chunk(body, {"content": piece}))
            # As models write. A stream that its reader leaves is cut before it says what it cost.
            self.server.vendors.closing.wait(_PACE_SECONDS)
        if behaviour == "cut":
            self.close_connection = True
            return
        self._event(_chunk(body, {}, finish_reason="stop"))
        self._event({**_about(body, "chat.completion.chunk"), "choices": [], "usage": _usage(tokens)})
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: dict[str, Any]) -> None:
        self._write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(
        self,
        status: int,
        value: Any,
        more: dict[str, str] | None = None,
        *,
        kind: str = "application/json",
    ) -> None:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, said in {"content-type": kind, "content-length": str(len(raw)), **(more or {})}.items():
            self.send_header(name, said)
        self.end_headers()
        self.wfile.write(raw)

    def _until_left(self) -> None:
        self.connection.settimeout(0.2)
        while not self.server.vendors.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue


def _tokens(body: dict[str, Any], behaviour: str) -> tuple[int, int]:
    """Tokens in and out; what the provider asks money for."""
    if "input" in body:
        return sum(1 + len(text) // 4 for text in body["input"]), 0
    read = sum(1 + len(str(turn["content"])) // 4 for turn in body["messages"])
    return read, 2000 if behaviour == "overcharge" else 100


def _usage(tokens: tuple[int, int]) -> dict[str, int]:
    read, written = tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _about(body: dict[str, Any], form: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": form, "created": 1, "model": body["model"]}


def _chat(body: dict[str, Any], tokens: tuple[int, int], *, cut: bool) -> dict[str, Any]:
    text = '{"a": ' if cut else "".join(_PIECES)
    message = {"role": "assistant", "content": text}
    # A cut text that says it is whole: whether it is JSON must be looked at.
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**_about(body, "chat.completion"), "choices": [choice], "usage": _usage(tokens)}


def _chunk(body: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_about(body, "chat.completion.chunk"), "choices": [choice]}


def _vectors(body: dict[str, Any], tokens: tuple[int, int], *, rotated: bool) -> dict[str, Any]:
    rows = [vector(body["model"], text) for text in body["input"]]
    if rotated:
        rows = [np.roll(row, 1) for row in rows]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(x) for x in row]}
        for index, row in enumerate(rows)
    ]
    return {"object": "list", "data": data, "model": body["model"], "usage": _usage(tokens)}


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "code": code, "param": None}}
