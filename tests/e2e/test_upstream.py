"""What upstream knows arrives, at the service as it is deployed: reasons, a new key, circuits closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from gifty_compute.embedded.valkey import Valkey
from tests.conftest import ROOT
from tests.e2e.service import eventually
from tests.facade import RunningFacade, running_facade
from tests.fakes.server import FakeProviders

API = {"Authorization": "Bearer api-token"}
CHAT = {"messages": [{"role": "user", "content": "Подарок для Анны 7261"}]}
LOGIC = "llm: {default_provider: groq}\nembedding: {providers: [local], model: multilingual-e5-small}\n"
WRONG, RIGHT = "wrong-key-0123456789", "good-key"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.env"
    file.write_text(f"GROQ_API_KEY={WRONG}\n")
    return file


@pytest.fixture(scope="module")
def facades(
    migrated_url: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory, keys: Path
) -> Iterator[list[RunningFacade]]:
    """Two processes of one service, with a key that is wrong."""
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "logic.yaml").write_text(LOGIC)
    with ExitStack() as stack:
        fake = stack.enter_context(FakeProviders())
        environ = {
            "DATABASE_URL": migrated_url,
            "REDIS_URL": valkey.url,
            "LOGIC_CONFIG_PATH": str(folder / "logic.yaml"),
            "GROQ_API_BASE": fake.base_url("groq"),
            "PROVIDER_KEYS_FILE": str(keys),
        }
        running = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            running.append(stack.enter_context(running_facade(folder / name, environ, threads=16)))
        yield running


def chat(facade: RunningFacade, request_id: str = "r") -> requests.Response:
    headers = {**API, "X-Request-Id": request_id}
    return requests.post(f"{facade.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=30)


def told(facade: RunningFacade, request_id: str) -> list[dict[str, Any]]:
    """What grep finds by the id."""
    found = [line for line in facade.log.read_text().splitlines() if request_id in line]
    return [json.loads(line) for line in found]


def circuits(facade: RunningFacade, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it elsewhere."""
    shell = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "gifty_compute.commands", "circuits", *arguments],
        cwd=facade.log.parent,
        env={
            **shell,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "GIFTY_COMPUTE_URL": facade.url,
            "GIFTY_OPS_TOKEN": "ops-token",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_from_a_wrong_key_to_a_right_one_without_a_restart(facades: list[RunningFacade], keys: Path) -> None:
    """A wrong key is told to operators, in each process; the right one is in force within seconds."""
    one, two = facades

    first = chat(one, "request-7f3a")
    assert (first.status_code, first.json()["error"]["code"]) == (502, "bad_key")

    # grep of the id finds which provider was asked and why it failed.
    lines = told(one, "request-7f3a")
    assert {line["client"] for line in lines} == {"backend"}
    [attempt] = [line for line in lines if line["event"].startswith("provider ")]
    assert (attempt["provider"], attempt["code"], attempt["status"]) == ("groq", "bad_key", 401)
    assert "bad key" in attempt["reason"]
    [end] = [line for line in lines if "answered 502" in line["event"]]
    assert end["path"] == "/v1/chat/completions"

    # The other process knows why, without having asked.
    eventually(lambda: chat(two).status_code == 503, within=10, what="the other process leaves it alone")
    said = chat(two).json()["error"]["message"]
    assert "groq: bad_key, " in said
    assert " s left" in said
    listed = circuits(two, "list")
    assert listed.returncode == 0, listed.stderr
    assert "groq/1/llm/" in listed.stdout
    assert "bad key" in listed.stdout

    # Closed by hand it opens again, since nothing has changed.
    closed = circuits(two, "close", "groq")
    assert (closed.returncode, "is closed" in closed.stdout) == (0, True), closed.stderr
    eventually(lambda: chat(one).status_code == 502, within=10, what="the first process asks again")
    assert circuits(one, "close", "openrouter").returncode == 1

    keys.write_text(f"GROQ_API_KEY={RIGHT}\n")
    for facade in facades:
        eventually(lambda f=facade: chat(f).status_code == 200, within=15, what="the new key is in force")  # type: ignore[misc]
        log = facade.log.read_text()
        assert "7261" not in log
        assert WRONG not in log
        assert RIGHT not in log

    # A file that is cut off changes nothing, and is shown.
    keys.write_text("GROQ_API_KEY=goo")
    ready = f"{one.url}/readyz"
    eventually(
        lambda: "keys" in requests.get(ready, timeout=10).json().get("parts", []),
        within=15,
        what="the bad file is shown",
    )
    assert chat(one).status_code == 200
