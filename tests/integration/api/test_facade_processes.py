"""Several facade processes behind one port, started as operations.md says: one may die."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from gifty_compute.stack.ports import choose_addresses
from tests.conftest import ROOT
from tests.e2e.service import eventually
from tests.facade import process_of

OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Granian:
    """The server, whose children are the facade's processes."""

    process: psutil.Process
    url: str
    log: Path

    def wait_for_starts(self, count: int) -> None:
        """Returns when so many processes, also those that have ended, have begun to answer."""
        eventually(
            lambda: self.log.read_text().count("Started worker-") == count, within=90, what=f"{count} starts"
        )

    def answers(self) -> bool:
        """Over a connection of its own, which any process may take."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except requests.ConnectionError:
            return False


@pytest.fixture
def granian(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[Granian]:
    [command] = re.findall(r"^python (-m api.server .*--workers 4 .*)$", OPERATIONS, re.MULTILINE)
    port, log = choose_addresses(0).port, tmp_path / "log"
    argv = (sys.executable, *shlex.split(command.replace("--workers 4", "--workers 2")), "--port", str(port))
    environ = {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
    with log.open("wb") as file, process_of(argv, environ, file, threads=16) as process:
        yield Granian(psutil.Process(process.pid), f"http://127.0.0.1:{port}", log)


def test_where_one_process_is_killed_the_other_answers_until_there_are_two_again(granian: Granian) -> None:
    granian.wait_for_starts(2)
    victim = granian.process.children()[0]

    victim.kill()
    psutil.wait_procs([victim], timeout=30)
    answered = [granian.answers() for _ in range(100)]
    granian.wait_for_starts(3)

    assert all(answered)
