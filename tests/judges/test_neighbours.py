"""The previous version judges this one: its workers against this facade, this one's workers against its.

A fleet is never of one version: notebooks and home GPUs are updated by their owners, if at all. The previous
version is the newest tag before this commit, its worker the wheel that is built of it. Both run with what is
installed here, on the schema of this version, as during a deployment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from tests.conftest import ROOT
from tests.e2e.service import eventually
from tests.facade import process_of, running_facade

API = {"Authorization": "Bearer api-token"}
# Every kind of work that the packaged model does, and vectors of more than one text.
TASKS = [
    {"task_type": "embedding", "payload": {"texts": ["чайник", "самовар"]}},
    {"task_type": "embedding", "payload": {"texts": ["удочка"], "input_type": "query"}},
    {"task_type": "rerank", "payload": {"query": "рыбаку", "documents": ["удочка", "помада"]}},
    {
        "task_type": "classify",
        "payload": {"external_names": ["Удочки"], "internal_categories": [{"id": 1, "name": "Рыбалка"}]},
    },
]


def previous_tag() -> str | None:
    """The newest tag before this commit; None where there is none, or no repository."""
    told = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "HEAD^"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return told.stdout.strip() or None


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the previous version."""
    tag = previous_tag()
    if tag is None:
        pytest.skip("there is no git tag before this commit, so no previous version to run with")
    packed = subprocess.run(["git", "archive", tag], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def wheel(previous: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel of the previous version holds, unpacked: a wheel needs no more to be imported."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(folder)]
    subprocess.run(build, cwd=previous, check=True, timeout=300)
    [built] = folder.glob("*.whl")
    with ZipFile(built) as archive:
        archive.extractall(folder)
    return folder


POLL = "from gifty_compute.commands import worker; worker()"


@contextmanager
def poll_worker(url: str, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`gifty-worker` of the version that lies in the folder."""
    mine = {"GIFTY_COMPUTE_URL": url, "GIFTY_WORKER_TOKEN": "internal-token", "PYTHONPATH": str(folder)}
    argv = (sys.executable, "-c", POLL, "--worker-id", "neighbour")
    with log.open("wb") as output, process_of(argv, mine, output, folder=folder) as process:
        yield process


@contextmanager
def celery_worker(stores: dict[str, str], checkout: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The Celery worker of a checkout, over SQL."""
    quiet = ("--without-gossip", "--without-mingle", "--hostname", "neighbour@test")
    argv = (sys.executable, "-m", "celery", "-A", "workers", "worker", "--pool", "solo", *quiet)
    mine = {**stores, "PYTHONPATH": str(checkout)}
    with log.open("wb") as output, process_of(argv, mine, output, folder=checkout) as process:
        yield process


@pytest.fixture
def stores(database_url: str, valkey: Valkey) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}


def environment(stores: dict[str, str], checkout: Path) -> dict[str, str]:
    """A version goes by its own logic.yaml: it would refuse a key that came later."""
    return {**stores, "LOGIC_CONFIG_PATH": str(checkout / "configs" / "logic.local.yaml")}


def submit(url: str) -> list[str]:
    answers = [requests.post(f"{url}/v1/tasks", json=task, headers=API, timeout=30) for task in TASKS * 3]
    assert {answer.status_code for answer in answers} == {202}
    return [answer.json()["id"] for answer in answers]


def assert_done(url: str, ids: list[str]) -> None:
    """Each at the first attempt, by the neighbour."""

    def tasks() -> list[dict[str, object]]:
        found = requests.get(f"{url}/v1/tasks", params={"limit": 100}, headers=API, timeout=30)
        return [task for task in found.json()["tasks"] if task["id"] in ids]

    eventually(lambda: all(task["completed_at"] for task in tasks()), within=60, what="all tasks ended")
    for task in tasks():
        said = {name: task[name] for name in ("status", "attempt", "failures", "error")}
        assert said == {"status": "completed", "attempt": 1, "failures": 0, "error": None}, task
        assert str(task["worker_id"]).startswith("neighbour")


def assert_content(process: subprocess.Popen[bytes], log: Path) -> None:
    """It drains when it is told to, and has met nothing that it did not expect."""
    process.terminate()
    assert process.wait(60) == 0, log.read_text()
    assert not [line for line in log.read_text().splitlines() if '"warning"' in line or '"error"' in line]


@pytest.mark.parametrize("whose", ["previous worker", "previous facade"])
def test_a_poll_worker_works_for_its_neighbour(
    previous: Path, wheel: Path, stores: dict[str, str], tmp_path: Path, whose: str
) -> None:
    facade_of, worker_of = (ROOT, wheel) if whose == "previous worker" else (previous, ROOT)
    log = tmp_path / "worker.log"

    with running_facade(tmp_path, environment(stores, facade_of), checkout=facade_of) as facade:
        ids = submit(facade.url)
        with poll_worker(facade.url, worker_of, log) as worker:
            assert_done(facade.url, ids)
            assert_content(worker, log)


@pytest.mark.parametrize("whose", ["previous worker", "previous facade"])
def test_a_celery_worker_works_for_its_neighbour(
    previous: Path, stores: dict[str, str], tmp_path: Path, whose: str
) -> None:
    facade_of, worker_of = (ROOT, previous) if whose == "previous worker" else (previous, ROOT)
    log = tmp_path / "worker.log"

    with (
        celery_worker(environment(stores, worker_of), worker_of, log),
        running_facade(tmp_path, environment(stores, facade_of), checkout=facade_of) as facade,
    ):
        assert_done(facade.url, submit(facade.url))


def test_the_previous_version_is_what_runs(previous: Path, wheel: Path) -> None:
    for folder in (previous, wheel):
        told = subprocess.run(
            [sys.executable, "-c", "import gifty_compute; print(gifty_compute.__file__)"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert Path(told.stdout.strip()).is_relative_to(folder)
