"""A fleet that may be killed: facade, Celery and poll workers as processes, over stores that may break."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import psycopg2.extras
import requests

from gifty_compute.embedded.child import Child
from gifty_compute.settings import FACADE_THREADS
from gifty_compute.stack.readiness import Ready, http_ok, logged_event
from tests.conftest import ROOT
from tests.e2e.service import LOGIC, eventually

__all__ = ["SOAK", "Audit", "Fleet", "scaled"]

SOAK = float(os.environ.get("SOAK", "0"))
LEASE_SECONDS = 4.0
PERIOD_SECONDS = 1.0


def scaled(ci: int, soak: int) -> int:
    """How many of something: few in CI, all of the soak's at SOAK=1."""
    return round(ci + (soak - ci) * SOAK)


@dataclass(frozen=True)
class Audit:
    """What became of the tasks that were accepted."""

    accepted: int
    lost: int
    stranded: int
    failed: int
    double: int
    begun_again: int
    slowest_rescue: float
    statuses: Mapping[int, int] = field(default_factory=dict)

    def demand(self) -> None:
        """0 lost, 0 stranded, 0 healthy tasks failed, 0 double effects; no 5xx but 503."""
        assert (self.lost, self.stranded, self.failed, self.double) == (0, 0, 0, 0), self
        assert not [status for status in self.statuses if status >= 500 and status != 503], self.statuses


class Fleet:
    """Programs by name, started by the tests and all ended with the block; `kill` starts a program again."""

    def __init__(self, directory: Path, database_url: str, redis_url: str, **environ: str) -> None:
        self.directory, self.auditors_url = directory, database_url
        (directory / "logic.yaml").write_text(LOGIC)
        self._environ = {
            **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")},
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "API_TOKENS": "backend:api-token",
            "INTERNAL_API_TOKEN": "internal-token",
            "OPS_TOKENS": "op:operator:ops-token",
            "LOGIC_CONFIG_PATH": str(directory / "logic.yaml"),
            "MAINTAIN_PERIOD_SECONDS": str(PERIOD_SECONDS),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "PYTHONUNBUFFERED": "1",
            **environ,
        }
        self._children: dict[str, tuple[Child, Ready]] = {}
        self._undo = ExitStack()
        self.session = requests.Session()
        self.statuses: dict[int, int] = {}
        self.accepted: list[str] = []
        self.is_over = False
        self.urls: dict[str, str] = {}

    def close(self) -> None:
        """Stops all programs at once, and whoever still submits."""
        self.is_over = True
        for child, _ in self._children.values():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
        self._undo.close()
        self.session.close()

    def facade(self, name: str = "facade", *, app: str = "api.wsgi:app", **environ: str) -> str:
        """A facade on a port of its own; gives its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.urls[name] = url = f"http://127.0.0.1:{port}"
        server = ["granian", "--interface", "wsgi", "--workers", "1", "--blocking-threads"]
        server += [str(FACADE_THREADS)]
        listen = ["--host", "127.0.0.1", "--port", str(port), "--no-ws", app]
        self.start(name, [*server, *listen], http_ok(f"{url}/readyz"), **environ)
        return url

    def celery(self, name: str, *, pool: str = "threads", app: str = "workers", **environ: str) -> None:
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        argv = ["celery", "-A", app, "worker", "--pool", pool, "--concurrency", "1"]
        self.start(name, [*argv, "--hostname", f"{name}@chaos", *quiet], _celery_ready, **environ)

    def poll_worker(self, name: str, url: str, *, module: str = "workers.poll", **environ: str) -> None:
        argv = [module, "--api", url, "--worker-id", name]
        self.start(name, argv, logged_event("ready"), GIFTY_WORKER_TOKEN="internal-token", **environ)

    def start(self, name: str, argv: list[str], ready: Ready, **environ: str) -> None:
        child = Child(
            name,
            [sys.executable, "-m", *argv],
            env={**self._environ, **environ},
            cwd=ROOT,
            log_path=self.directory / f"{name}.log",
            stop_grace=75,
        )
        child.start()
        self._undo.callback(child.stop)
        self._children[name] = (child, ready)

    def wait_ready(self, *names: str, within: float = 90) -> None:
        for name in names or tuple(self._children):
            child, ready = self._children[name]
            eventually(lambda child=child, ready=ready: ready(child), within=within, what=f"{name} is ready")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends the program and all that it started; then starts it anew."""
        child, _ = self._children[name]
        with suppress(ProcessLookupError):  # it may have ended by itself, when a part of it was killed
            os.killpg(child.pid, number)
        child.wait(80)
        child.start()

    def kill_child(self, name: str) -> bool:
        """Kills one process that the program has started; whether there was one."""
        children = psutil.Process(self._children[name][0].pid).children(recursive=True)
        for process in children[-1:]:
            process.kill()
        return bool(children)

    def stop(self, name: str) -> int | None:
        """Asks the program to end, waits, and gives its exit status."""
        return self._children[name][0].stop()

    def restart(self, name: str) -> None:
        self._children[name][0].start()

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to the program alone."""
        os.kill(self._children[name][0].pid, number)

    def bring_back(self, *names: str) -> None:
        """Starts those of these programs again that have ended, and waits until they are ready."""

        def all_are_back() -> bool:
            children = [self._children[name] for name in names]
            for child, _ in children:
                if child.poll() is not None:
                    child.start()
            return all(ready(child) for child, ready in children)

        # Some take a moment to notice that a part of theirs has died, and end then.
        self._children[names[0]][0].wait(0.5)
        eventually(all_are_back, within=90, what=f"{names} are back")

    def log(self, name: str) -> str:
        return self._children[name][0].log_since_start()

    # -- what a client does ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, facade: str = "facade", **arguments: Any) -> requests.Response:
        """One request; its status is counted. Raises OSError when nobody answers."""
        token = "internal-token" if path.startswith("/internal") else "api-token"
        headers = {"Authorization": f"Bearer {token}", **arguments.pop("headers", {})}
        answer = self.session.request(
            method, self.urls[facade] + path, headers=headers, timeout=(5, 70), **arguments
        )
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer

    @contextmanager
    def submitting(self, count: int) -> Iterator[None]:
        """So many tasks arrive while the block runs; it ends when all of them are accepted."""
        submitter = threading.Thread(target=self.submit, args=(count,), daemon=True)
        submitter.start()
        yield
        submitter.join(scaled(300, 7200))
        assert not submitter.is_alive(), f"{len(self.accepted)} tasks are accepted, no more"

    def submit(self, count: int) -> None:
        """So many tasks, as a caller would send them: a 202 is remembered, anything else said again later."""
        left = count
        while left and not self.is_over:
            body = {"task_type": "embedding", "payload": {"texts": [f"чай {len(self.accepted)}"]}}
            key = {"Idempotency-Key": f"{self.directory.name}-{len(self.accepted)}"}
            try:
                answer = self.call("POST", "/v1/tasks", json=body, headers=key)
            except OSError:
                continue
            if answer.status_code in (200, 202):
                self.accepted.append(answer.json()["id"])
                left -= 1

    # -- what an auditor sees --------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        connection = psycopg2.connect(self.auditors_url)
        try:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(statement, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def tell_everybody(self) -> None:
        """From now on every task has a callback_url: the outbox shows each end that takes effect."""
        self.sql(
            "ALTER TABLE compute_tasks ALTER COLUMN callback_url SET DEFAULT 'https://backend.example.org/'"
        )

    def open_tasks(self) -> int:
        [row] = self.sql(
            "SELECT count(*) AS n FROM compute_tasks WHERE status IN ('pending', 'processing')",
        )
        return int(row["n"])

    def all_ended(self, *, within: float) -> Audit:
        """The audit as soon as nothing is left to do, or nothing has ended for so many seconds."""
        left = self.open_tasks()
        with suppress(AssertionError):  # the audit counts what is stranded
            while left:
                eventually(lambda left=left: self.open_tasks() < left, within=within, what="a task ends")
                left = self.open_tasks()
        return self.audit()

    def audit(self) -> Audit:
        rows = self.sql("SELECT id, status, attempt, history, callback_url FROM compute_tasks")
        found = {str(row["id"]): row for row in rows}
        told = self.sql("SELECT task_id, count(*) AS n FROM compute_callbacks GROUP BY task_id")
        tells = {str(row["task_id"]): int(row["n"]) for row in told}
        ended = [row for row in rows if row["status"] in ("completed", "failed") and row["callback_url"]]
        return Audit(
            accepted=len(set(self.accepted)),
            lost=len(set(self.accepted) - found.keys()),
            stranded=sum(row["status"] in ("pending", "processing") for row in rows),
            failed=sum(row["status"] == "failed" for row in rows),
            double=sum(tells.get(str(row["id"]), 0) != 1 for row in ended),
            begun_again=sum(_was_begun_again(row) for row in rows),
            slowest_rescue=max(_rescues(rows), default=0.0),
            statuses=dict(self.statuses),
        )


def _was_begun_again(row: Mapping[str, Any]) -> bool:
    """Whether an attempt was in vain. What a drain gives back has not been begun."""
    return any(entry["end"] != "drain" for entry in row["history"] or []) and row["attempt"] > 1


def _rescues(rows: Iterable[dict[str, Any]]) -> Iterator[float]:
    """Seconds between the end of each lease that ran out and its rescue."""
    for row in rows:
        for entry in row["history"] or []:
            if entry["end"] == "expired":
                since, until = (datetime.fromisoformat(entry[name]) for name in ("lease_until", "until"))
                yield (until - since).total_seconds()


def _celery_ready(child: Child) -> bool:
    return " ready." in child.log_since_start()
