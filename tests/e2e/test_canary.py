"""A canary in every text that callers, workers and providers say, and in every secret: nobody else hears it.

The whole stack runs as `gifty-compute up` starts it. Whatever can be said goes in through every path, by good
bodies and by bad ones, with providers and receivers that repeat all that they are told. Then the canary is
looked for wherever people look who must not see it.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import redis
import requests

from tests.conftest import ROOT
from tests.e2e.parrot import REASON, parrot
from tests.e2e.service import Service, eventually, service
from tests.facade import process_of

WORD = "kanarejka5f1c"
"""Stands in every text; alone where there is room for one word only."""
TEXT = f"Подарок для Анны {WORD}, ул. Лесная 7"
NAME = "nomen7d2e"
"""What callers and workers call their sessions, tokens and keys: operators see it, no log or message does."""
WORKER = "rabotnik3c8d"
"""What a worker calls itself: Flower shows it, as it shows those of Celery."""
SECRET = "sekret9b3a"
"""A part of each secret."""

LOGIC = """
llm:
  embedding_provider: local
  model_embedding: multilingual-e5-small
  default_provider: openrouter
  fallbacks: [groq, together]
rerank: {model: multilingual-e5-small, providers: [local]}
classify: {model: multilingual-e5-small, providers: [local]}
callbacks: {allow_hosts: [127.0.0.1]}
routing: {breaker: {failures: 1000, config_seconds: 0.001}}
"""


def secret(name: str) -> str:
    return f"{SECRET}-{name}-0123456789abcdef"


def environment(port: int) -> dict[str, str]:
    """Every provider is the parrot, in another of its ways, behind an address that holds a password."""
    at = f"http://user:{secret('base')}@127.0.0.1:{port}"
    dead = f"http://user:{secret('base')}@127.0.0.1:9"
    webhook = base64.b64encode(f"{secret('callbacks')}-0123456789".encode()).decode()
    return {
        "API_TOKENS": f"backend:{secret('api')}",
        "INTERNAL_API_TOKEN": secret("shared"),
        "OPS_TOKENS": f"anna:operator:{secret('ops')}",
        "CALLBACK_SECRET": f"whsec_{webhook}",
        "FLOWER_BASIC_AUTH": f"anna:{secret('flower')}",
        "INTELLIGENCE_API_TOKEN": secret("key"),
        "INTELLIGENCE_API_BASE": f"{at}/page",
        "OPENROUTER_API_KEY": f"{secret('key')},{secret('key2')}",
        "OPENROUTER_API_BASE": f"{at}/error",
        "GROQ_API_KEY": secret("key"),
        "GROQ_API_BASE": f"{at}/odd",
        "TOGETHER_API_KEY": secret("key"),
        "TOGETHER_API_BASE": f"{at}/stream",
        "ANTHROPIC_API_KEY": secret("key"),
        "ANTHROPIC_API_BASE": f"{at}/error",
        "GEMINI_API_KEY": secret("key"),
        "GEMINI_API_BASE": dead,
        "RUNPOD_API_KEY": f"{secret('key')}\u20ac",
        "RUNPOD_ENDPOINT_ID": "e1",
    }


@dataclass
class Stage:
    """The stack, the parrot's port, and what was overheard meanwhile."""

    up: Service
    port: int
    refusals: list[tuple[str, str]] = field(default_factory=list)
    broker: list[bytes] = field(default_factory=list)
    worker_token: str = ""

    def say(self, method: str, path: str, token: str = "api", **arguments: Any) -> requests.Response:
        """A call; what is refused is kept."""
        headers = {"Authorization": f"Bearer {secret(token)}", **arguments.pop("headers", {})}
        url = self.up.run["api_url"] + path
        answer = requests.request(method, url, headers=headers, timeout=60, **arguments)
        assert answer.status_code < 500 or answer.status_code in (502, 503, 504), (path, answer.text)
        if answer.status_code >= 400:
            self.refusals.append((f"{method} {path} {answer.status_code}", answer.text))
        return answer

    def work(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """A call of the worker that has a token of its own."""
        headers = {"Authorization": f"Bearer {self.worker_token}", **arguments.pop("headers", {})}
        return self.say(method, f"/internal/workers{path}", headers=headers, **arguments)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """All has been said in it."""
    folder = tmp_path_factory.mktemp("canary")
    with parrot(WORD) as port, service(folder, logic=LOGIC, env=environment(port)) as up:
        stage = Stage(up, port)
        with overheard(up.run["redis_url"], stage.broker):
            say_all(stage)
        yield stage


class overheard:
    """What goes through the broker: messages, events, marks and counts."""

    def __init__(self, url: str, heard: list[bytes]) -> None:
        self._client, self._heard, self._over = redis.Redis.from_url(url), heard, threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._begun = threading.Event()

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            self._begun.set()
            while not self._over.is_set():
                if monitor.connection.can_read(timeout=0.2):
                    self._heard.append(monitor.connection.read_response())

    def __enter__(self) -> None:
        self._thread.start()
        assert self._begun.wait(10)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._client.close()


def say_all(stage: Stage) -> None:
    high(stage)
    ids = low(stage)
    worker(stage)
    operators(stage)
    stage.up.all_done(ids, within=60)
    eventually(lambda: told(stage), within=60, what="a receiver was told, and would not hear it")


def high(stage: Stage) -> None:
    product = dict.fromkeys(("title", "description", "category", "merchant", "content_text", "price"), TEXT)
    chat = {
        "messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": TEXT, "name": WORD}]
    }
    schema = {"type": "json_schema", "json_schema": {"name": WORD, "schema": {"title": TEXT}}}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("embeddings", {"input": [TEXT, TEXT]}),
        ("embeddings", {"input": TEXT, "model": "bge-m3"}),
        ("rerank", {"query": TEXT, "documents": [TEXT, "чай"], "return_documents": True}),
        ("rerank", {"query": TEXT, "documents": [TEXT], "model": "bge-reranker-v2-m3"}),
        (
            "classify/categories",
            {"external_names": [TEXT], "internal_categories": [{"id": WORD, "name": TEXT}]},
        ),
        ("products/score", {**product, "image_url": f"https://example.com/{WORD}"}),
        ("products/score", {"title": WORD}),
    ]
    for model in ("fast", "smart", "anthropic/x", "gemini/x", "groq/x", "together/x", "runpod/x"):
        bodies += [("chat/completions", {**chat, "model": model, "stop": [WORD], "user": WORD})]
        bodies += [("chat/completions", {**chat, "model": model, "stream": True})]
    bodies += [("chat/completions", {**chat, "model": "openrouter/x", "response_format": schema})]
    for path, body in bodies:
        stage.say("POST", f"/v1/{path}", json=body)
        for spoiled in (
            {**body, "timeout_ms": TEXT},
            {**body, "metadata": {"a": TEXT}},
            {**body, "priority": TEXT},
            {**body, "callback_url": f"http://user:{secret('url')}@10.0.0.1/{WORD}", "priority": "low"},
            {**body, "input": {"a": TEXT}, "messages": TEXT, "query": [TEXT], "title": [TEXT]},
        ):
            stage.say("POST", f"/v1/{path}", json=spoiled)
        stage.say("POST", f"/v1/{path}", data=TEXT.encode(), headers={"Content-Type": "application/json"})
        stage.say(
            "POST", f"/v1/{path}", data=TEXT.encode("cp1251"), headers={"Content-Type": "application/json"}
        )


def low(stage: Stage) -> list[str]:
    """Submits tasks of all kinds and batches, good and bad ones; the ids of those that will be done."""
    receiver = f"http://127.0.0.1:{stage.port}/page/hook?key={secret('query')}"
    about = {"metadata": {WORD: TEXT}, "callback_url": receiver}
    good = [
        {"task_type": "embedding", "payload": {"texts": [TEXT], "ids": [WORD]}, **about},
        {"task_type": "rerank", "payload": {"query": TEXT, "documents": [TEXT]}, **about},
        {
            "task_type": "classify",
            "payload": {"external_names": [TEXT], "internal_categories": [{"id": WORD, "name": TEXT}]},
            **about,
        },
    ]
    for_nobody = [
        {"task_type": "llm", "payload": {"messages": [{"role": "user", "content": TEXT}]}, **about},
        {"task_type": "score", "payload": {"products": [{"title": TEXT, "id": WORD}]}, **about},
    ]
    key = {"Idempotency-Key": NAME}
    ids = [stage.say("POST", "/v1/tasks", json=body).json()["id"] for body in good]
    for body in [*for_nobody, *for_nobody]:
        assert stage.say("POST", "/v1/tasks", json=body).status_code == 202
    assert stage.say("POST", "/v1/tasks", json=good[0], headers=key).status_code == 202
    assert stage.say("POST", "/v1/tasks", json=good[1], headers=key).status_code == 409
    for spoiled in (
        {**good[0], "payload": {"texts": TEXT}},
        {**good[0], "payload": {"texts": [TEXT], "ids": [TEXT, TEXT]}},
        {**good[0], "payload": {"texts": [TEXT, "\x00"]}},
        {**good[0], "max_attempts": TEXT},
        {**good[0], "callback_url": f"ftp://user:{secret('url')}@{WORD}"},
        {**good[0], "callback_url": f"http://10.0.0.1/?{secret('url')}"},
    ):
        stage.say("POST", "/v1/tasks", json=spoiled)
    lines = [json.dumps(body).encode() for body in good]
    options = {"callback_url": receiver}
    for body in (lines, [*lines, TEXT.encode()], [*lines, json.dumps({"task_type": TEXT}).encode()]):
        for packed in (gzip.compress(b"\n".join(body)), b"\n".join(body)):
            headers = {"Content-Type": "application/x-ndjson"}
            headers |= {"Content-Encoding": "gzip"} if packed.startswith(b"\x1f") else {}
            answer = stage.say("POST", "/v1/batches", data=packed, params=options, headers=headers)
            if answer.status_code == 202:
                batch = answer.json()["id"]
                stage.say("GET", f"/v1/batches/{batch}", params={"wait": 30})
                stage.say("GET", f"/v1/batches/{batch}/results")
                stage.say("GET", f"/v1/batches/{batch}/results", headers={"Accept": "application/x-npy"})
    stage.say("POST", "/v1/batches", data=lines[0], params={"callback_url": f"http://{WORD}:99999/"})
    stage.say("GET", "/v1/tasks", params={"limit": 100})
    stage.say("GET", "/v1/tasks", params={"cursor": TEXT})
    return ids


def worker(stage: Stage) -> None:
    minted = stage.say("POST", "/ops/tokens", "ops", json={"name": NAME})
    stage.worker_token = minted.json()["token"]
    who = {"worker_id": WORKER, "session": NAME}
    claimed = stage.work(
        "GET", "/tasks", params={**who, "task_type": ["llm", "score"], "model": ["fast", "gift-scorer"]}
    )
    tasks = claimed.json()["tasks"]
    assert len(tasks) == 4
    held = [{"id": task["id"], "attempt": task["attempt"]} for task in tasks]
    stage.work("POST", "/heartbeat", json={**who, "tasks": held, "info": {WORD: TEXT}})
    stage.work("POST", "/heartbeat", json={**who, "tasks": held, "info": TEXT})
    stage.work("POST", "/heartbeat", json={**who, "tasks": [{"id": TEXT, "attempt": TEXT}]})
    stage.work("POST", "/release", json={**who, "tasks": held, "reason": TEXT})
    for one, task in zip(held, tasks, strict=True):
        for result in (
            {"content": [TEXT]},
            {"scores": [TEXT], "model": TEXT},
            {"content": TEXT, "usage": TEXT},
        ):
            body = {**who, "attempt": one["attempt"], "status": "completed", "result": result}
            stage.work("POST", f"/tasks/{task['id']}/result", json=body)
            stage.work(
                "POST",
                "/results",
                json={**who, "results": [{**one, "status": "completed", "result": result}]},
            )
    failed = {**who, "attempt": held[0]["attempt"], "status": "failed", "error": TEXT, "retryable": False}
    assert stage.work("POST", f"/tasks/{held[0]['id']}/result", json=failed).status_code == 200
    many = {**who, "results": [{**one, "status": "failed", "error": TEXT} for one in held[1:3]]}
    assert stage.work("POST", "/results", json=many).status_code == 200
    stage.work("POST", "/release", json={**who, "tasks": held[3:], "reason": "oom"})
    stage.work("GET", "/tasks", params={"worker_id": WORKER, "task_type": TEXT})
    stage.work("GET", "/tasks", params={"worker_id": WORKER, "limit": TEXT})


def operators(stage: Stage) -> None:
    stage.say("POST", "/ops/tokens", "ops", json={"name": TEXT})
    stage.say("POST", "/ops/tokens", "ops", json={"name": "a", "trust": TEXT, "task_types": [TEXT]})
    stage.say("POST", f"/ops/tokens/{WORD}/revoke", "ops")
    stage.say("POST", f"/ops/callbacks/{WORD}/resend", "ops")
    stage.say("GET", "/ops/callbacks", "ops", params={"state": TEXT, "cursor": TEXT})
    stage.say("GET", "/v1/tasks", WORD)
    stage.say("GET", f"/v1/{WORD}")


def told(stage: Stage) -> bool:
    found = stage.say("GET", "/ops/callbacks", "ops", params={"state": "due", "limit": 100}).json()
    return any(one["error"] == "answered 500" for one in found["callbacks"])


def assert_silent(where: str, said: str, *words: str) -> None:
    for word in words:
        at = said.find(word)
        assert at < 0, f"{where}: …{said[max(0, at - 300) : at + 100]}…"


def passwords(stage: Stage) -> list[str]:
    """Those of the stores, which the stack has made itself, and the worker's token."""
    urls = (stage.up.run["database_url"], stage.up.run["redis_url"])
    return [unquote(urlsplit(url).password or "") for url in urls] + [stage.worker_token]


def test_no_log_holds_a_payload_or_a_secret(stage: Stage) -> None:
    logs = [*stage.up.data_dir.glob("**/*.log"), *stage.up.data_dir.glob("logs/*")]
    read = {path.name: path.read_text(errors="replace") for path in {*logs} if path.is_file()}

    assert {"facade.log", "celery-1.log", "poll-1.log", "flower.log", "postgres.log"} <= set(read)
    assert "failed" in read["facade.log"]
    assert REASON in read["facade.log"], "the reason is for operators, and only what it quotes is not"
    for name, text in {**read, "up": "".join(stage.up.lines)}.items():
        assert_silent(name, text, WORD, NAME, WORKER, SECRET, *passwords(stage))


def test_no_circuit_holds_a_payload_or_a_secret_and_each_says_why(stage: Stage) -> None:
    shown = stage.say("GET", "/ops/circuits", "ops")

    assert REASON in shown.text
    assert_silent("/ops/circuits", shown.text, WORD, "Анны", "Лесная", NAME, WORKER, SECRET)


def test_no_message_or_event_of_celery_holds_a_payload_or_a_secret(stage: Stage) -> None:
    heard = "\n".join(line.decode(errors="replace") for line in stage.broker)
    packed = re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", heard)
    unpacked = [base64.b64decode(one + "=" * (-len(one) % 4)).decode(errors="replace") for one in packed]

    assert "multilingual-e5-small" in "".join(unpacked)
    assert "task-succeeded" in heard + "".join(unpacked)
    assert_silent("the broker", heard + "".join(unpacked), WORD, NAME, SECRET, *passwords(stage))


def test_flower_shows_no_payload_and_no_secret(stage: Stage) -> None:
    anna = ("anna", secret("flower"))
    workers = requests.get(f"{stage.up.run['flower_url']}/api/workers?refresh=1", auth=anna, timeout=30)
    assert {name.partition("@")[0] for name in workers.json()} >= {"celery-1", "poll-1"}
    paths = ["/api/workers?refresh=1", "/api/tasks", "/api/queues/length", "/api/task/types", "/metrics"]
    paths += ["/workers", "/tasks", "/broker", *(f"/worker/{name}" for name in workers.json())]
    found = {path: requests.get(stage.up.run["flower_url"] + path, auth=anna, timeout=30) for path in paths}

    assert "gifty.embedding" in found["/api/tasks"].text
    for path, answer in found.items():
        assert answer.status_code == 200, path
        assert_silent(f"Flower's {path}", answer.text, WORD, NAME, SECRET, *passwords(stage))


def test_operators_are_shown_no_payload_and_no_secret(stage: Stage) -> None:
    tasks = stage.say("GET", "/v1/tasks", params={"limit": 100}).json()["tasks"]
    paths = [
        "/metrics",
        "/ops/callbacks?state=any&limit=100",
        "/ops/tokens",
        "/readyz",
        "/openapi.json",
        "/docs",
    ]
    paths += [f"/ops/tasks/{task['id']}" for task in tasks]
    found = {path: stage.say("GET", path, "ops") for path in paths}

    assert 'gifty_attempts_total{kind="llm"' in found["/metrics"].text
    for path, answer in found.items():
        assert answer.status_code == 200, path
        # What a worker said of its failure is stored with the task and shown to those who see to it.
        text = (
            answer.text.replace(json.dumps(TEXT, ensure_ascii=False)[1:-1], "")
            if "/tasks/" in path
            else answer.text
        )
        assert_silent(path, text, WORD, SECRET, *passwords(stage))
    assert_silent("/metrics", found["/metrics"].text, NAME)


def test_no_refusal_quotes_a_payload_or_a_secret(stage: Stage) -> None:
    assert len(stage.refusals) > 100
    for where, text in stage.refusals:
        # A name that nobody knows is repeated to who said it: the task type, the type of a batch's line.
        named = text.replace(f"there is no task type '{TEXT}", "")
        assert_silent(where.replace(WORD, "…"), named, WORD, SECRET, *passwords(stage))


def test_no_command_line_holds_a_secret(stage: Stage) -> None:
    family = psutil.Process(stage.up.process.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in family]

    assert len(lines) > 5
    for line in lines:
        assert_silent("a command line", line, SECRET, *passwords(stage))


@pytest.mark.parametrize("command", ["doctor --live", "callbacks list --state any", "tokens list"])
def test_no_command_of_operators_shows_a_payload_or_a_secret(stage: Stage, command: str) -> None:
    run = stage.up.run
    addresses = {"DATABASE_URL": run["database_url"], "REDIS_URL": run["redis_url"], "COLUMNS": "500"}

    told = subprocess.run(
        [sys.executable, "-m", "gifty_compute.commands", *command.split()],
        cwd=ROOT,
        env={**os.environ, **environment(stage.port), **addresses},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )

    assert {"doctor": "cannot be reached", "callbacks": "127.0.0.1", "tokens": NAME}[
        command.split()[0]
    ] in told.stdout
    assert_silent(command, told.stdout, WORD, SECRET, *passwords(stage))


PROGRAMS = {
    "facade": ("granian --interface wsgi --port 0 api.wsgi:app", "the database does not answer"),
    "worker": ("celery -A workers worker --pool solo", "Cannot connect to redis"),
    "beat": ("celery -A workers beat --schedule {folder}/beat", "Connection error"),
    "flower": ("celery -A workers flower --port=0 --address=127.0.0.1", "Error"),
    "migrate": ("gifty_compute.commands migrate", "the database does not answer"),
    "poll": ("workers.poll", "gave no answer"),
}


@pytest.mark.parametrize("flaw", ["nobody answers", "the password is not encoded"])
def test_addresses_with_passwords_are_in_no_log_of_a_program_that_cannot_start(
    tmp_path: Path, flaw: str
) -> None:
    """Not where nobody answers there, and not where the address cannot even be read."""
    hosts = "://user:{0}@127.0.0.1:9/0" if flaw == "nobody answers" else "://user:{0}/{0}@127.0.0.1:9/0"
    addresses = {
        "DATABASE_URL": "postgresql" + hosts.format(secret("database")),
        "REDIS_URL": "redis" + hosts.format(secret("redis")),
        "GIFTY_COMPUTE_URL": "http://127.0.0.1:9",
        "GIFTY_WORKER_TOKEN": secret("worker"),
    }
    logs = {name: tmp_path / f"{name}.log" for name in PROGRAMS}

    def through(name: str) -> bool:
        return running[name].poll() is not None or PROGRAMS[name][1] in logs[name].read_text()

    with ExitStack() as stack:
        running = {}
        for name, (command, _) in PROGRAMS.items():
            argv = (sys.executable, "-m", *command.format(folder=tmp_path).split())
            mine = {**environment(9), **addresses}
            if name == "worker":
                mine |= {"GIFTY_COMPUTE_URL": "", "GIFTY_WORKER_TOKEN": ""}
            output = stack.enter_context(logs[name].open("wb"))
            running[name] = stack.enter_context(process_of(argv, mine, output))
        eventually(lambda: all(map(through, PROGRAMS)), within=60, what="each has met its trouble")

    for name, log in logs.items():
        text = log.read_text()
        assert_silent(name, text, SECRET)
