"""A small facade on a real socket: it leases, fences and replays claims, and fails as it is told."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from gifty_compute.clock import Deadline, SystemClock

TOKEN = "w0rker-token"
NOW = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Fault:
    """What befalls the next call whose path ends so."""

    ends: str
    status: int = 0
    """An answer instead of the work; 0: the work is done, and the connection closed without a word."""
    code: str = "internal_error"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    gate: threading.Event | None = None
    """The work is done and answered, once this is set."""


class Call(NamedTuple):
    """What came in: the query or the body, and from which port."""

    path: str
    asked: dict[str, Any]
    headers: dict[str, str]
    port: int


@dataclass
class FakeFacade:
    """Keeps tasks in a dict; a lock makes each call one step. `calls` is what came in, in order."""

    lease_seconds: float = 90.0
    port: int = 0
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    is_up: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"facade": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.is_up = True

    def stop(self) -> None:
        self.is_up = False  # Connections that were kept open are cut at their next call.
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def submit(self, *texts: str) -> str:
        task_id = str(uuid4())
        times = {"created_at": NOW, "updated_at": NOW}
        counts = {"attempt": 0, "failures": 0, "max_attempts": 5}
        payload = {"texts": list(texts), "model": "multilingual-e5-small", "input_type": "passage"}
        named = {"task_type": "embedding", "priority": "low", "model": "multilingual-e5-small"}
        self.tasks[task_id] = {
            "id": task_id, "status": "pending", "payload": payload, "result": None, **named, **counts, **times
        }  # fmt: skip
        return task_id

    def made(self, ends: str) -> list[dict[str, Any]]:
        """The bodies or queries of all calls whose path ends so."""
        with self.lock:
            return [call.asked for call in self.calls if call.path.endswith(ends)]

    def statuses(self) -> list[str]:
        with self.lock:
            return [task["status"] for task in self.tasks.values()]

    # -- the verbs -------------------------------------------------------------------------------------------

    def claim(self, query: dict[str, list[str]]) -> dict[str, Any]:
        claim_id = query["claim_id"][0]
        if claim_id not in self.claims:
            ready = [task for task in self.tasks.values() if task["status"] == "pending"]
            taken = ready[: int(query["limit"][0])]
            for task in taken:
                task |= {"status": "processing", "attempt": task["attempt"] + 1}
            self.claims[claim_id] = [task["id"] for task in taken]
        mine = [self.tasks[one] for one in self.claims[claim_id]]
        tasks = [task for task in mine if task["status"] == "processing"]
        return {
            "tasks": tasks, "count": len(tasks), "lease_seconds": self.lease_seconds, "server_time": NOW
        }  # fmt: skip

    def heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        lost = [one["id"] for one in body["tasks"] if not self._holds(one)]
        return {"lease_seconds": self.lease_seconds, "lost": lost, "cancelled": [], "drain": False}

    def release(self, body: dict[str, Any]) -> dict[str, Any]:
        released = [one["id"] for one in body["tasks"] if self._holds(one)]
        for one in released:
            self.tasks[one]["status"] = "pending"
        return {"released": released}

    def results(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"verdicts": [self._verdict(outcome) for outcome in body["results"]]}

    def _verdict(self, outcome: dict[str, Any]) -> dict[str, Any]:
        task, status, result = self.tasks[outcome["id"]], outcome["status"], outcome.get("result")
        if (task["status"], task["result"]) != (status, result):
            if not self._holds(outcome):
                refused = {"status": "refused", "http_status": 409, "code": "lease_lost"}
                return {"id": task["id"], **refused, "message": "as told: lease_lost"}
            task |= {"status": status, "result": result, "error": outcome.get("error")}
        return {"id": task["id"], "status": status, "http_status": 200}

    def _holds(self, one: dict[str, Any]) -> bool:
        task = self.tasks[one["id"]]
        return bool(task["status"] == "processing" and task["attempt"] == one["attempt"])


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hung up is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            raise


class _Handler(BaseHTTPRequestHandler):
    facade: FakeFacade
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        self._handle(parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _handle(self, asked: dict[str, Any]) -> None:
        path = self.requestline.split()[1].partition("?")[0]  # self.path has two slashes made one
        if not self.facade.is_up:
            self.close_connection = True
            return
        with self.facade.lock:
            self.facade.calls.append(Call(path, asked, dict(self.headers), self.client_address[1]))
            faults = self.facade.faults
            fault = faults.popleft() if faults and path.endswith(faults[0].ends) else None
            if fault and fault.status:
                self._send(fault.status, fault.body or _error(fault.code), fault.headers)
                return
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._send(401, _error("unauthorized"))
                return
            answer = json.dumps(self._work(path, asked)).encode()
        if fault and not fault.gate:
            self.close_connection = True
            return
        if fault:
            assert fault.gate.wait(30), "nobody opened the gate"
        self._send(200, answer)

    def _work(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        facade = self.facade
        verbs = {"tasks": facade.claim, "heartbeat": facade.heartbeat, "release": facade.release}
        return {**verbs, "results": facade.results}[path.rpartition("/internal/workers/")[2]](asked)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the test asks for `calls`."""


def _error(code: str) -> bytes:
    return json.dumps({"error": {"type": "t", "code": code, "message": f"as told: {code}"}}).encode()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """These sockets are on this machine, whatever proxy its user needs."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def facade() -> Iterator[FakeFacade]:
    fake = FakeFacade()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until the condition holds, a minute at most: every core may be busy."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = Deadline.after(60, SystemClock())
        while not condition():
            assert not deadline.expired, "the condition did not come true within 60 s"
            threading.Event().wait(0.02)

    return wait
