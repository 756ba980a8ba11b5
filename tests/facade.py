"""The facade as it is deployed, in a process of its own: `api.server` as the Procfile starts it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from gifty_compute.settings import FACADE_THREADS
from gifty_compute.stack.options import Options
from gifty_compute.stack.ports import choose_addresses
from gifty_compute.stack.programs import programs
from tests.conftest import LOCAL_LOGIC, ROOT
from tests.e2e.service import eventually

__all__ = ["TOKENS", "RunningFacade", "process_of", "running_facade"]

TOKENS = {
    "API_TOKENS": "backend:api-token",
    "INTERNAL_API_TOKEN": "internal-token",
    "OPS_TOKENS": "anna:operator:ops-token",
}


@dataclass(frozen=True)
class RunningFacade:
    """Where it answers, and what it has logged."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def running_facade(
    folder: Path, environ: Mapping[str, str], *, threads: int = FACADE_THREADS, checkout: Path = ROOT
) -> Iterator[RunningFacade]:
    """Ready at the beginning of the block, ended by SIGTERM after it."""
    addresses = choose_addresses(0)
    program = programs(
        Options(data_dir=folder),
        addresses,
        beat_schedule=folder / "beat",
        flower_auth="",
        internal_token="",
        facade_threads=str(threads),
    )[0]
    log = folder / "facade.log"
    url = addresses.api_url
    with log.open("ab") as file, process_of(program.argv, environ, file, threads, checkout) as process:
        eventually(
            lambda: process.poll() is not None or _answers(f"{url}/healthz"),
            within=60,
            what="the facade answers",
        )
        assert process.poll() is None, log.read_text()
        yield RunningFacade(url, log, process)


@contextmanager
def process_of(
    argv: tuple[str, ...],
    environ: Mapping[str, str],
    output: Any,
    threads: int = FACADE_THREADS,
    folder: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours, which sees of this environment only what a shell has."""
    shell = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    common = {"LOGIC_CONFIG_PATH": str(LOCAL_LOGIC), "FACADE_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env={**shell, **common, **TOKENS, **environ},
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False
