"""The notebook of workers/kaggle, run from top to bottom in a new environment against a live facade."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gifty_compute.embedded.valkey import Valkey
from gifty_compute.wire.score import AXES
from tests.conftest import ROOT
from tests.e2e.service import eventually
from tests.facade import RunningFacade, running_facade
from tests.fakes.scorer import scorer

KIT = ROOT / "workers" / "kaggle"
API = {"Authorization": "Bearer api-token"}
OPS = {"Authorization": "Bearer ops-token"}
# As Kaggle's own client: a secret that is not there is an error.
STUB = """
import json, os

class BackendError(Exception):
    pass

class UserSecretsClient:
    def get_secret(self, label):
        secrets = json.loads(os.environ["STUB_SECRETS"])
        if label not in secrets:
            raise BackendError(f"no user secrets exist for label {label}")
        return secrets[label]
"""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an attached dataset is one, with the wheel as `make wheel` builds it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("input") / "gifty-wheel"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "gifty_compute", source / "gifty_compute", ignore=shutil.ignore_patterns("__pycache__")
    )
    uv("build", "--quiet", "--wheel", "--out-dir", folder, cwd=source)
    return folder.parent


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Jupyter finds a Python that has pip and a kernel, and nothing of ours."""
    environment = tmp_path_factory.mktemp("kaggle") / "venv"
    uv("venv", "--quiet", "--seed", "--python", sys.executable, environment, cwd=environment.parent)
    python = environment / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "ipykernel", cwd=environment.parent)
    subprocess.run(
        [python, "-m", "ipykernel", "install", "--prefix", environment, "--name", "kaggle"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return environment / "share" / "jupyter"


def uv(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    subprocess.run(command, cwd=cwd, check=True, timeout=300)


@pytest.fixture
def facade(database_url: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningFacade]:
    environ = {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
    with running_facade(tmp_path, environ, threads=16) as running:
        yield running


@pytest.fixture
def notebook(
    facade: RunningFacade, wheels: Path, kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> NotebookClient:
    """The notebook as it is, in a folder of its own, with the secrets of a new worker."""
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "kaggle_secrets.py").write_text(STUB)
    (tmp_path / "working").mkdir()
    minted = requests.post(
        f"{facade.url}/ops/tokens", json={"name": f"kaggle-{facade.port}"}, headers=OPS, timeout=10
    )
    secrets = {"GIFTY_COMPUTE_URL": facade.url, "GIFTY_WORKER_TOKEN": minted.json()["token"]}
    environ = {
        "JUPYTER_PATH": str(kernels),
        "PYTHONPATH": str(tmp_path / "stub"),
        "STUB_SECRETS": json.dumps(secrets),
        "GIFTY_WHEELS": str(wheels),
        "OMP_NUM_THREADS": "1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = nbformat.read(KIT / "gifty_worker.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path / "working")}}
    return NotebookClient(found, timeout=300, kernel_name="kaggle", resources=resources)


def execute(notebook: NotebookClient) -> None:
    """From top to bottom, in an event loop that is closed after it."""
    asyncio.run(notebook.async_execute())


def submit(facade: RunningFacade, number: int) -> list[str]:
    ids = []
    for n in range(number):
        body = {"task_type": "embedding", "payload": {"texts": [f"подарок номер {n}"]}}
        answer = requests.post(f"{facade.url}/v1/tasks", json=body, headers=API, timeout=10)
        ids.append(str(answer.json()["id"]))
    return ids


def task(facade: RunningFacade, task_id: str) -> Any:
    return requests.get(f"{facade.url}/v1/tasks/{task_id}", headers=API, timeout=10).json()


def printed(notebook: NotebookClient) -> str:
    outputs = [output for cell in notebook.nb.cells for output in cell.get("outputs", [])]
    return "".join(str(output.get("text", "")) for output in outputs)


def test_the_notebook_does_tasks_and_drains_when_it_is_interrupted(
    notebook: NotebookClient, facade: RunningFacade
) -> None:
    ids = submit(facade, 40)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            execute(notebook)
        except BaseException as error:  # noqa: BLE001  # told in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(
        lambda: failed or task(facade, ids[-1])["status"] == "completed",
        within=240,
        what="the tasks are done",
    )
    os.kill(notebook.km.provisioner.pid, 2)  # the notebook's stop button
    thread.join(120)

    assert not failed, failed[0]
    assert "ended: kaggle-1" in printed(notebook)
    done = [task(facade, one) for one in ids]
    assert {(one["status"], one["worker_id"], one["attempt"]) for one in done} == {
        ("completed", "kaggle-1", 1)
    }


def test_the_notebook_scores_products_on_the_ten_axes_by_a_chat_model(
    notebook: NotebookClient, facade: RunningFacade, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = {"products": [{"id": "p40", "title": "Плед", "axes": True}]}
    body = {"task_type": "score", "payload": payload}
    task_id = requests.post(f"{facade.url}/v1/tasks", json=body, headers=API, timeout=10).json()["id"]

    with scorer() as url:
        work = f"--model gift-scorer --engine llm --source acme/scorer --url {url}"
        monkeypatch.setenv("GIFTY_WORK", work)
        monkeypatch.setenv("GIFTY_RUN_FOR", "15s")
        execute(notebook)

    scored = task(facade, task_id)
    assert (scored["status"], scored["worker_id"]) == ("completed", "kaggle-1")
    assert set(scored["result"]["scores"][0]["gift_vector"]) == set(AXES)


def test_the_notebook_ends_by_itself_when_its_time_is_over(
    notebook: NotebookClient, facade: RunningFacade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIFTY_RUN_FOR", "15s")

    execute(notebook)

    assert "ended: kaggle-1" in printed(notebook)


def test_without_its_token_the_notebook_stops_at_that_cell(
    notebook: NotebookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SECRETS", json.dumps({"GIFTY_COMPUTE_URL": "http://127.0.0.1:1"}))

    with pytest.raises(CellExecutionError, match="no user secrets exist for label GIFTY_WORKER_TOKEN"):
        execute(notebook)


def test_a_token_that_is_refused_is_said_in_the_last_cell(
    notebook: NotebookClient, facade: RunningFacade, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"GIFTY_COMPUTE_URL": facade.url, "GIFTY_WORKER_TOKEN": "gwt_wrong"}
    monkeypatch.setenv("STUB_SECRETS", json.dumps(wrong))

    with pytest.raises(CellExecutionError, match="refuses this token"):
        execute(notebook)


def test_the_notebook_has_five_cells_and_no_outputs_and_names_no_token() -> None:
    found = nbformat.read(KIT / "gifty_worker.ipynb", as_version=4)
    nbformat.validate(found)

    assert len(found.cells) == 5
    assert all(not cell.get("outputs") for cell in found.cells)


def test_the_metadata_of_the_kernel_turns_gpu_and_internet_on_and_is_private() -> None:
    metadata = json.loads((KIT / "kernel-metadata.json").read_text())

    assert (KIT / metadata["code_file"]).exists()
    assert metadata["enable_gpu"] is metadata["enable_internet"] is metadata["is_private"] is True
    assert (metadata["language"], metadata["kernel_type"]) == ("python", "notebook")
