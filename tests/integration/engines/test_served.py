"""A language model behind an OpenAI-compatible server: one that answers well, and others that do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.errors import EngineError
from gifty_compute.logic.recipe import Recipe


class Server:
    """Answers each call with the echo of its last turn; `status` and `body` say otherwise."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status, self.body = 200, ""
        self.together = threading.Barrier(1)

    def answer(self, path: str, sent: bytes) -> tuple[int, str]:
        if path == "/v1/models":
            return 200, json.dumps({"object": "list", "data": [{"id": "acme/chat"}]})
        asked = json.loads(sent)
        self.asked.append(asked)
        self.together.wait(10)
        choice = {"message": {"role": "assistant", "content": asked["messages"][-1]["content"]}}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        said = {"choices": [{**choice, "finish_reason": "stop", "index": 0}], "usage": usage}
        return self.status, self.body or json.dumps(said)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def _answer(self, sent: bytes) -> None:
            status, body = server.answer(self.path, sent)
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/v1"
    listening.shutdown()
    thread.join()
    listening.server_close()


def opened(url: str, source: str = "acme/chat") -> Any:
    recipe = Recipe("chat", "llm", frozenset({"llm"}), source=source, url=url)
    return EngineShelf(lambda _: recipe).get("chat")


def done(engine: Any, **payload: Any) -> dict[str, Any]:
    job = engine.prepare("llm", {"messages": [{"role": "user", "content": "чай"}], **payload})
    result: dict[str, Any] = job.finish(engine.forward(job.rows))
    return result


def test_it_answers_through_the_server(server: Server, url: str) -> None:
    result = done(opened(url), max_tokens=9, temperature=0.5, stops=["."])

    assert result == {
        "content": "чай",
        "finish_reason": "stop",
        "model": "chat",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    [asked] = server.asked
    assert asked["model"] == "acme/chat"
    assert (asked["max_tokens"], asked["temperature"], asked["stop"]) == (9, 0.5, ["."])


def test_a_schema_is_passed_on(server: Server, url: str) -> None:
    done(opened(url), messages=[{"role": "user", "content": "{}"}], json_schema={"type": "object"})

    assert server.asked[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


def test_conversations_of_a_pass_are_with_the_server_at_the_same_time(server: Server, url: str) -> None:
    engine = opened(url)
    server.together = threading.Barrier(8)
    jobs = [engine.prepare("llm", {"messages": [{"role": "user", "content": str(n)}]}) for n in range(8)]

    outputs = engine.forward([job.rows[0] for job in jobs])

    contents = [job.finish([output])["content"] for job, output in zip(jobs, outputs, strict=True)]
    assert contents == [str(n) for n in range(8)]


@pytest.mark.parametrize("reason", ["eos_token", "STOP", "end_turn", "", None])
def test_an_answer_with_any_word_for_its_end_is_one(server: Server, url: str, reason: str | None) -> None:
    engine = opened(url)
    choice = {"message": {"content": "Удочку."}, "finish_reason": reason}
    server.body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    assert done(engine)["finish_reason"] == "stop"


def test_what_the_server_says_of_its_error_is_told_without_the_conversation(server: Server, url: str) -> None:
    engine = opened(url)
    server.status = 400
    server.body = json.dumps({"error": {"message": "context is 8192 tokens: Подарок для Анны, 40 лет"}})

    with pytest.raises(EngineError) as caught:
        done(engine, messages=[{"role": "user", "content": "Подарок для Анны, 40 лет"}])

    assert "context is 8192 tokens" in str(caught.value)
    assert "Анн" not in str(caught.value)


def test_a_server_without_the_model_is_refused_with_what_it_serves(url: str) -> None:
    with pytest.raises(EngineError, match="serves acme/chat, and not acme/other"):
        opened(url, "acme/other")


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
        opened("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, "{}", "answered 500"),
        (400, '{"error": {"message": "context is 8192 tokens"}}', "answered 400: context is 8192 tokens"),
        (503, "<html><title>Busy</title></html>", "answered 503: Busy"),
        (200, "<html>", "what is not JSON"),
        (200, "[]", "no chat completion"),
        (200, '{"choices": []}', "no chat completion"),
        (200, '{"choices": [{"message": {"content": "a"}, "finish_reason": 7}], "usage": {}}', "no word"),
        (
            200,
            '{"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}], "usage": {}}',
            "ended by abort",
        ),
    ],
)
def test_an_answer_that_is_none_fails_the_pass_without_quoting_it(
    server: Server, url: str, status: int, body: str, said: str
) -> None:
    engine = opened(url)
    server.status, server.body = status, body

    with pytest.raises(EngineError, match=said):
        done(engine)
