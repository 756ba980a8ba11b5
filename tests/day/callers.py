"""Three clients of the day: what each of them calls, and what came back."""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import requests

from gifty_compute.clock import Clock
from tests.fakes.vectors import vector

__all__ = ["CLIENTS", "Called", "Callers"]

CLIENTS = ("shop", "jobs", "lab")
_MESSAGES = [{"role": "user", "content": "Что подарить папе-рыбаку?"}]


@dataclass(frozen=True)
class Called:
    """One call and its answer; moments are seconds since the epoch."""

    client: str
    what: str
    facade: str
    began: float
    ended: float
    status: int | None
    """None where the connection failed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer; names in any case."""
    error: dict[str, Any] | None = None
    """The error of the answer's body, or of a stream's last event."""
    fault: str | None = None
    """What in the answer cannot be right."""


class Callers:
    """Each client calls from threads of its own until `stop`, at either facade."""

    def __init__(self, urls: dict[str, str], clock: Clock, rng: Random) -> None:
        self._urls, self._clock, self._rng = urls, clock, rng
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.calls: list[Called] = []
        self.accepted: list[str] = []
        self._of: dict[str, list[str]] = {client: [] for client in CLIENTS}
        """The tasks that each client has submitted."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for client, call, pause in (
            ("shop", self.chat, 0.5),
            ("shop", self.stream, 0.7),
            ("shop", self.embed, 0.3),
            ("jobs", self.submit, 0.8),
            ("jobs", self.submit_batch, 7.0),
            ("jobs", self.look_at_own, 1.5),
            ("lab", self.embed, 0.15),
            ("lab", self.spy, 1.0),
            ("lab", self.break_rules, 2.0),
            ("lab", self.hang_up, 3.0),
        ):
            arguments = (client, call, pause, Random(self._rng.random()))
            thread = threading.Thread(target=self._run, args=arguments, name=f"{client}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} still waits for an answer"

    def _run(self, client: str, call: Callable[..., Iterator[Called]], pause: float, rng: Random) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {client}-token"
            while not self._stop.wait(pause * rng.uniform(0.5, 1.5)):
                for called in call(client, session, rng):
                    with self._lock:
                        self.calls.append(called)

    # -- what they call --------------------------------------------------------------------------------------

    def chat(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        yield self._call(client, "chat", session, rng, "/v1/chat/completions", {"messages": _MESSAGES})

    def embed(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        texts = [f"Подарок номер {rng.randrange(10_000)}" for _ in range(rng.randint(1, 4))]

        def fault(answer: Any) -> str | None:
            rows = np.array([row["embedding"] for row in answer["data"]])
            known = np.stack([vector("bge-m3", text) for text in texts])
            least = float((rows * known).sum(axis=1).min()) if rows.shape == known.shape else -1.0
            return None if least > 0.99 else f"a vector of another space: cosine {least:.3f}"

        yield self._call(client, "embed", session, rng, "/v1/embeddings", {"input": texts}, judge=fault)

    def stream(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        yield self._streamed(client, session, rng, most=None)

    def hang_up(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        """Reads a few events of a stream and goes away."""
        yield self._streamed(client, session, rng, most=3)

    def submit(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        yield self._call(client, "submit", session, rng, "/v1/tasks", _task(rng), judge=self._accept(client))

    def submit_batch(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        lines = "\n".join(json.dumps(_task(rng)) for _ in range(20))
        headers = {"Content-Type": "application/x-ndjson"}
        yield self._call(client, "batch", session, rng, "/v1/batches", data=lines, headers=headers)

    def look_at_own(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        if own := self._of[client]:
            path = f"/v1/tasks/{rng.choice(own)}"
            yield self._call(client, "own", session, rng, path, method="GET")

    def spy(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        """Tries to see, and to end, what belongs to another client."""

        def foreign(answer: Any) -> str | None:
            return "a task of another client" if answer.get("tasks") else None

        yield self._call(client, "list", session, rng, "/v1/tasks", method="GET", judge=foreign)
        if others := self._of["jobs"]:
            task = rng.choice(others)
            for method, path in (("GET", f"/v1/tasks/{task}"), ("POST", f"/v1/tasks/{task}/cancel")):
                yield self._call(client, "foreign", session, rng, path, method=method)

    def break_rules(self, client: str, session: requests.Session, rng: Random) -> Iterator[Called]:
        """What must be refused whatever the file says at the moment."""
        callback = {**_task(rng), "callback_url": "https://evil.example.net/hook"}
        yield self._call(client, "callback", session, rng, "/v1/tasks", callback)
        unpriced = {"messages": _MESSAGES, "model": "greedy/not-in-the-file"}
        yield self._call(client, "unpriced", session, rng, "/v1/chat/completions", unpriced)

    # -- how it is called ------------------------------------------------------------------------------------

    def _accept(self, client: str) -> Callable[[Any], str | None]:
        def accept(answer: Any) -> str | None:
            with self._lock:
                self.accepted.append(answer["id"])
                self._of[client].append(answer["id"])
            return None

        return accept

    def _call(
        self,
        client: str,
        what: str,
        session: requests.Session,
        rng: Random,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        judge: Callable[[Any], str | None] | None = None,
        **arguments: Any,
    ) -> Called:
        facade = rng.choice(sorted(self._urls))
        if body is not None:
            arguments["json"] = body
        began = self._now()
        try:
            answer = session.request(method, self._urls[facade] + path, timeout=(5, 90), **arguments)
        except OSError as error:
            fault = f"no answer: {type(error).__name__}"
            return Called(client, what, facade, began, self._now(), None, fault=fault)
        ended = self._now()
        error, fault = None, None
        if answer.ok:
            fault = judge(answer.json()) if judge is not None else None
        else:
            error = _error_of(answer)
        return Called(client, what, facade, began, ended, answer.status_code, answer.headers, error, fault)

    def _streamed(self, client: str, session: requests.Session, rng: Random, most: int | None) -> Called:
        facade = rng.choice(sorted(self._urls))
        url = f"{self._urls[facade]}/v1/chat/completions"
        began, what = self._now(), "stream" if most is None else "hang up"
        error = None
        try:
            with session.post(
                url, json={"messages": _MESSAGES, "stream": True}, stream=True, timeout=(5, 90)
            ) as answer:
                if not answer.ok:
                    error = _error_of(answer)
                    status, headers = answer.status_code, answer.headers
                    return Called(client, what, facade, began, self._now(), status, headers, error)
                events = (line for line in answer.iter_lines() if line.startswith(b"data: "))
                tail = deque(itertools.islice(events, most), maxlen=1)
                status, headers = answer.status_code, answer.headers
        except OSError as broken:
            fault = f"broke off: {type(broken).__name__}"
            return Called(client, what, facade, began, self._now(), None, fault=fault)
        fault = None
        last = tail[0] if tail else b"data: {}"
        if most is None and last != b"data: [DONE]":
            error = json.loads(last[6:]).get("error")
            fault = None if error else "a stream without an end"
        return Called(client, what, facade, began, self._now(), status, headers, error, fault)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _task(rng: Random) -> dict[str, Any]:
    texts = [f"Товар {rng.randrange(10**9)}"]
    return {"task_type": "embedding", "payload": {"texts": texts, "model": "multilingual-e5-small"}}


def _error_of(answer: requests.Response) -> dict[str, Any]:
    """The error in the contract's form; an empty one where the body is of another."""
    try:
        found = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
