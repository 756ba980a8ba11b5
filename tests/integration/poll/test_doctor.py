"""`gifty-worker doctor` against the real facade: what it finds, and what it says to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from gifty_compute.clock import SystemClock
from gifty_compute.core import Core
from gifty_compute.engines.inference import Inference
from gifty_compute.engines.shelf import EngineShelf
from gifty_compute.poll.cli import main
from gifty_compute.poll.client import PollClient
from gifty_compute.poll.doctor import Doctor
from gifty_compute.queue.tasks import Origin
from gifty_compute.wire.task import SubmitRequest
from gifty_compute.wire.token import MintRequest

Run = Callable[..., Result]


def run(api: str, token: str, *arguments: str) -> Result:
    environment = {"GIFTY_COMPUTE_URL": api, "GIFTY_WORKER_TOKEN": token}
    return CliRunner().invoke(main, [*arguments, "doctor"], env=environment)


def test_a_worker_that_could_work_is_told_so_and_no_task_is_touched(facade_url: str, core: Core) -> None:
    request = SubmitRequest(task_type="embedding", payload={"texts": ["чайник"]})
    task, _ = core.store.submit(request, Origin(client="shop"))
    token = core.tokens.mint(MintRequest(name="home"), created_by="anna").token

    answer = run(facade_url, token)

    assert answer.exit_code == 0, answer.output
    said = dict(re.findall(r"^ok   ([^:]+): (.*)$", answer.output, re.M))
    model = "multilingual-e5-small"
    of_the_model = [f"model {model}", f"self-test {model}", f"rate {model}"]
    assert list(said) == ["facade", "clock", "token", "claims", "machine", *of_the_model]
    assert said["claims"] == "tasks of embedding, rerank, classify by multilingual-e5-small"
    assert int(said[f"rate {model}"].split()[0]) > 0
    [row] = [core.database.row("stored", id=str(task.id))]
    assert row is not None
    assert (row["status"], row["attempt"]) == ("pending", 0)


def test_it_names_the_types_that_the_token_is_for(facade_url: str, core: Core) -> None:
    token = core.tokens.mint(MintRequest(name="home", task_types=["rerank"]), created_by="anna").token

    assert "ok   claims: tasks of rerank by multilingual-e5-small" in run(facade_url, token).output


def test_a_token_for_work_that_no_model_here_does_is_found(facade_url: str, core: Core) -> None:
    """It said "score, llm by multilingual-e5-small", which no worker would ever be handed."""
    request = MintRequest(name="home", task_types=["score", "llm"])
    token = core.tokens.mint(request, created_by="anna").token

    answer = run(facade_url, token)

    assert answer.exit_code == 1
    said = "the token is for score, llm; multilingual-e5-small does classify, embedding, rerank"
    assert f"FAIL claims: nothing: {said}\n" in answer.output


def test_a_wrong_token_is_found_and_not_shown(facade_url: str) -> None:
    answer = run(facade_url, "wr0ng-token")

    assert answer.exit_code == 1
    assert re.search(r"^FAIL token: .*\n     set GIFTY_WORKER_TOKEN", answer.output, re.M)
    assert "wr0ng-token" not in answer.output
    assert "ok   self-test" in answer.output


def test_a_facade_that_is_away_is_found_and_the_machine_is_looked_at_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    answer = run(f"http://127.0.0.1:{port}", "any-token")

    assert answer.exit_code == 1
    assert "FAIL facade: " in answer.output
    assert "Connection refused" in answer.output
    assert "token:" not in answer.output
    assert "ok   rate" in answer.output


def test_another_service_at_the_address_is_found(facade_url: str) -> None:
    answer = run(f"{facade_url}/elsewhere", "internal-token")

    assert answer.exit_code == 1
    assert "/elsewhere/healthz was answered 404" in answer.output


def test_workers_that_are_switched_off_are_found(
    facade_url: str, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = core.logic.file.features.model_copy(update={"enable_external_workers": False})
    monkeypatch.setattr(core.logic.file, "__dict__", {**core.logic.file.__dict__, "features": features})

    answer = run(facade_url, "internal-token")

    assert answer.exit_code == 1
    assert "FAIL claims: nothing now" in answer.output


def test_a_clock_that_is_wrong_is_found(facade_url: str) -> None:
    class Wrong(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(hours=3)

    clock = Wrong()
    source = PollClient(facade_url, "internal-token")
    doctor = Doctor(facade_url, source, (), Inference(EngineShelf(), clock), clock)

    [found] = [finding for finding in doctor.findings() if finding.check == "clock"]

    assert not found.ok
    assert re.fullmatch(r"108\d\d s ahead of the server", found.said)
