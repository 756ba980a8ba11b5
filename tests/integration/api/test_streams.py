"""Streamed chats over HTTP, before a provider that sends what the test says, when the test says."""

from __future__ import annotations

import itertools
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from api import create_app
from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from tests.integration.conftest import API

CLOCK = SystemClock()
CHAT = {"messages": [{"role": "user", "content": "Что подарить?"}], "stream": True}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Say = Callable[[float, dict[str, Any] | bytes], bool]
Script = Callable[[Say], None]


class Upstream(socketserver.ThreadingTCPServer):
    """A provider of OpenAI's form whose stream is a script."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.asked, self.closing = script, 0, threading.Event()

    @property
    def logic(self) -> str:
        return (
            f"providers: {{own: {{adapter: openai_like, kinds: [llm], "
            f"base_url: 'http://127.0.0.1:{self.server_address[1]}/v1'}}}}\n"
            "models: {fast: {providers: {own: m1}}}\n"
            "llm: {default_provider: own, fallbacks: [groq], %s}\n"
        )


class _Handler(socketserver.StreamRequestHandler):
    server: Upstream

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        self.server.asked += 1
        try:
            self.wfile.write(HEAD)
            self.server.script(self._say)
            self._chunk(b"")
        except OSError:
            return

    def _say(self, seconds: float, piece: dict[str, Any] | bytes) -> bool:
        """After so many seconds this delta, or these bytes; false when the test is over."""
        if self.server.closing.wait(seconds):
            raise ConnectionError
        if isinstance(piece, dict):
            event = {"choices": [{"index": 0, "delta": piece, "finish_reason": piece.pop("end", None)}]}
            piece = b"data: " + json.dumps(event).encode() + b"\n\n"
        self._chunk(piece)
        return True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


@pytest.fixture
def streamed(core_with: Callable[..., Core]) -> Iterator[Callable[..., Any]]:
    """Asks the facade for a stream, with this script as its first provider; the lines as they come."""
    opened: list[Callable[[], object]] = []

    def run(script: Script, llm: str = "", **fields: Any) -> tuple[list[tuple[float, str]], Upstream]:
        upstream = Upstream(script)
        threading.Thread(target=upstream.serve_forever, args=(0.01,), daemon=True).start()
        facade = make_server(
            "127.0.0.1", 0, create_app(core_with(upstream.logic % llm, "groq")), threaded=True
        )
        threading.Thread(target=facade.serve_forever, args=(0.01,), daemon=True).start()
        opened.extend(
            (
                upstream.closing.set,
                upstream.shutdown,
                upstream.server_close,
                facade.shutdown,
                facade.server_close,
            )
        )
        began = CLOCK.monotonic()
        url = f"http://127.0.0.1:{facade.server_port}/v1/chat/completions"
        lines: list[tuple[float, str]] = []
        with requests.post(url, json={**CHAT, **fields}, headers=API, stream=True, timeout=60) as answer:
            assert answer.status_code == 200, answer.text
            lines.append((CLOCK.monotonic() - began, answer.headers["X-Gifty-Provider"]))
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if line:
                    lines.append((CLOCK.monotonic() - began, line))
        return lines, upstream

    yield run
    for close in opened:
        close()


def text_of(lines: list[tuple[float, str]]) -> str:
    events = [json.loads(line[5:]) for _, line in lines if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices", []))


def error_of(lines: list[tuple[float, str]]) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(lines[-1][1][5:])["error"]
    return error


def test_a_stream_flows_to_its_end_whatever_its_budget(streamed: Any) -> None:
    """P7: cut at `timeout_ms`, with the word that the provider broke off."""

    def flow(say: Say) -> None:
        for _ in range(16):
            say(0.25, {"content": "а"})
        say(0.25, {"end": "stop"})

    lines, _ = streamed(flow, timeout_ms=3000)

    assert text_of(lines) == "а" * 16
    assert lines[-1][1] == "data: [DONE]"


def test_the_client_hears_of_a_model_that_thinks(streamed: Any) -> None:
    """P8: the first byte came with the first text. P9: another provider was asked meanwhile."""

    def think(say: Say) -> None:
        for _ in range(20):
            say(0.2, {"reasoning_content": "Так"})
        say(0.2, {"content": "Удочку."})
        say(0.0, {"end": "stop"})

    lines, upstream = streamed(think, timeout_ms=6000)
    text = next(at for at, line in lines if text_of([(at, line)]))
    moments = [at for at, _ in lines]

    assert lines[0][1] == "own"
    assert moments[0] < text - 2
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < text - 1
    assert sum(line == ": keep-alive" for _, line in lines) >= 2
    assert text_of(lines) == "Удочку."
    assert upstream.asked == 1


def test_comments_of_a_provider_keep_its_stream_alive(streamed: Any) -> None:
    def comment(say: Say) -> None:
        for _ in range(10):
            say(0.3, b": PROCESSING\n\n")
        say(0.0, {"content": "Удочку."})
        say(0.0, {"end": "stop"})

    lines, _ = streamed(comment, timeout_ms=4000)

    assert (lines[0][1], text_of(lines)) == ("own", "Удочку.")


def test_a_stream_that_falls_silent_is_ended_and_the_client_learns_by_whom(streamed: Any) -> None:
    def fall_silent(say: Say) -> None:
        say(0.0, {"content": "Удочку."})
        say(60.0, {"end": "stop"})

    lines, _ = streamed(fall_silent, llm="silence_ms: 1000")

    assert error_of(lines)["code"] == "timeout"
    assert error_of(lines)["type"] == "timeout_error"
    assert error_of(lines)["message"] == (
        "this service ended the stream: nothing came from the provider for 1 s"
    )


def test_a_stream_that_its_provider_breaks_off_is_told_as_that(streamed: Any) -> None:
    def break_off(say: Say) -> None:
        say(0.0, {"content": "Удочку."})
        raise ConnectionError

    lines, _ = streamed(break_off)

    assert error_of(lines)["type"] == "upstream_error"
    assert error_of(lines)["message"] == "the provider broke off in the middle of its answer"


def test_a_stream_that_never_ends_is_ended(streamed: Any) -> None:
    def go_on(say: Say) -> None:
        while say(0.1, {"content": "а"}):
            pass

    lines, _ = streamed(go_on, llm="longest_stream_ms: 1000")

    assert error_of(lines)["code"] == "stream_too_long"
    assert "this service ended the stream" in error_of(lines)["message"]


def test_a_provider_that_says_nothing_gives_way_to_another_one(streamed: Any) -> None:
    def say_nothing(say: Say) -> None:
        say(60.0, b"")

    lines, _ = streamed(say_nothing, timeout_ms=8000)

    assert (lines[0][1], text_of(lines)) == ("groq", "Подарите удочку.")
