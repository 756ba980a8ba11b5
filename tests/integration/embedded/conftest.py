"""Fixtures of the embedded servers and programs: nothing here outlives its test."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gifty_compute.clock import Deadline, SystemClock
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.postgres import Postgres


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until the condition holds, ten seconds at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = Deadline.after(10, SystemClock())
        while not condition():
            assert not deadline.expired, "the condition did not come true within 10 s"
            threading.Event().wait(0.02)

    return wait


@pytest.fixture(scope="session")
def fresh_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a cluster that nobody has used; made once, because initdb is slow.

    An earlier initdb was killed there in the middle of its work.
    """
    directory = tmp_path_factory.mktemp("fresh") / "postgres"
    (directory / "cluster.new").mkdir(parents=True)
    (directory / "cluster.new" / "PG_VERSION").write_text("18\n")
    directory.chmod(0o700)
    server = Postgres(directory)
    server.start()
    server.stop()
    return directory


@pytest.fixture
def cluster(fresh_cluster: Path, tmp_path: Path) -> Path:
    """A test's own copy of it."""
    return shutil.copytree(fresh_cluster, tmp_path / "postgres")


@pytest.fixture(scope="module")
def server(fresh_cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One that runs, for tests that only look at it."""
    directory = tmp_path_factory.mktemp("server") / "Мои данные" / "the database"
    server = Postgres(shutil.copytree(fresh_cluster, directory))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Makes a Child that runs a Python program; it is not started."""
    children = []

    def make(program: str, *, name: str = "program", **options: object) -> Child:
        argv = [sys.executable, "-I", "-u", "-c", program]
        log_path = tmp_path / f"{name}.log"
        made = Child(name, argv, env={}, cwd=tmp_path, log_path=log_path, **options)
        children.append(made)
        return made

    yield make
    for made in children:
        made.close()


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    """Tells whether a process exists and is no zombie."""

    def check(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return check
