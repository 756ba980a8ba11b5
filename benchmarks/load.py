"""Load by wrk, and what it cost the server: wrk's own figures beside the CPU time of a process tree."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Load", "Memory", "Round", "cpu_seconds", "median", "memory_of"]

_SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
{headers}
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  local form = 'JSON {{"requests": %d, "seconds": %f, "p50_us": %d, "p99_us": %d, "errors": %d}}\\n'
  io.write(string.format(form, summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), errors))
end
"""


@dataclass(frozen=True)
class Round:
    """One round of load on one server."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_ms: float
    """Of the server's process tree, a request."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Load:
    """The same POST again and again."""

    url: str
    body: dict[str, object]
    headers: dict[str, str]

    def warm(self, *, callers: int, seconds: int) -> None:
        """A round whose figures are not looked at: programs load and compile with their first requests."""
        self._wrk(callers, seconds)

    def run(self, *, callers: int, seconds: int, server: psutil.Process | None) -> Round:
        """One round. Raises RuntimeError where an answer was not a 200: its figures would mean nothing."""
        before = cpu_seconds(server) if server else 0.0
        found = self._wrk(callers, seconds)
        after = cpu_seconds(server) if server else 0.0
        if found["errors"] or not found["requests"]:
            raise RuntimeError(f"{self.url}: {found}")
        return Round(
            requests=found["requests"],
            seconds=found["seconds"],
            p50_ms=found["p50_us"] / 1000,
            p99_ms=found["p99_us"] / 1000,
            errors=found["errors"],
            cpu_ms=(after - before) / found["requests"] * 1000,
        )

    def _wrk(self, callers: int, seconds: int) -> dict[str, Any]:
        wrk = shutil.which("wrk")
        if wrk is None:
            raise SystemExit("this benchmark needs wrk: apt-get install wrk")
        headers = "\n".join(
            f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
            for name, value in {"Content-Type": "application/json", **self.headers}.items()
        )
        body = json.dumps(json.dumps(self.body))
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "post.lua"
            script.write_text(_SCRIPT.format(body=body, headers=headers))
            command = [
                wrk,
                "-t1",
                f"-c{callers}",
                f"-d{seconds}s",
                "--timeout",
                "30s",
                "-s",
                str(script),
                self.url,
            ]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: dict[str, Any] = json.loads(re.search(r"^JSON (.*)$", said, re.MULTILINE)[1])  # type: ignore[index]
        return found


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of the process and its children, the ended ones included."""
    tree = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in tree]
    return sum(t.user + t.system for t in times) + times[0].children_user + times[0].children_system


@dataclass(frozen=True)
class Memory:
    """Of a process tree, in MiB."""

    pss: float
    """What the machine has less for it: a page that several processes share is counted once."""
    rss: float
    """The sum of what each process shows: shared pages are counted for each of them."""

    def __str__(self) -> str:
        return f"{self.pss:.0f} ({self.rss:.0f})"


def memory_of(process: psutil.Process) -> Memory:
    """As it is now."""
    found = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
    return Memory(sum(one.pss for one in found) / 2**20, sum(one.rss for one in found) / 2**20)


def median(rounds: list[Round], field: str) -> float:
    return statistics.median(getattr(one, field) for one in rounds)
