"""The supervisor gives up on nothing, and stops in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gifty_compute.backoff import Backoff
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.errors import ChildFailed
from gifty_compute.embedded.supervisor import Service, Supervisor

Eventually = Callable[[Callable[[], bool]], None]
MakeChild = Callable[..., Child]

FAST = Backoff(base=0.1, cap=0.3)
FOREVER = "import signal; print('up'); signal.pause()"


def _logged_up(child: Child) -> bool:
    return "up" in child.log_since_start()


class Told:
    """What the supervisor has announced."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def has(self, part: str) -> bool:
        return any(part in line for line in self.lines)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def supervisor(told: Told) -> Iterator[Supervisor]:
    made = Supervisor(told, backoff=FAST)
    yield made
    made.stop(threading.Event())


def test_dead_child_is_started_again_and_said_so(
    supervisor: Supervisor, told: Told, child: MakeChild, eventually: Eventually
) -> None:
    program = child(FOREVER, name="celery-1")
    supervisor.start(Service(program, _logged_up, 0))
    supervisor.wait_ready(10, threading.Event())
    supervisor.watch()
    first = supervisor.pids["celery-1"]

    os.killpg(first, signal.SIGKILL)

    eventually(lambda: supervisor.pids.get("celery-1", first) != first)
    assert told.has("celery-1 ended with status 137; it starts again in 0.1 s")


def test_change_of_a_pid_is_reported(child: MakeChild, eventually: Eventually) -> None:
    changes: list[dict[str, int]] = []
    supervisor = Supervisor(lambda _: None, on_change=lambda: changes.append(supervisor.pids), backoff=FAST)
    program = child(FOREVER)
    supervisor.start(Service(program, _logged_up, 0))
    supervisor.watch()
    first = program.pid

    os.killpg(first, signal.SIGKILL)

    eventually(lambda: bool(changes))
    assert changes[0]["program"] not in (None, first)
    supervisor.stop(threading.Event())


def test_restarts_of_a_child_that_keeps_dying_slow_down(
    supervisor: Supervisor, told: Told, child: MakeChild, eventually: Eventually
) -> None:
    supervisor.start(Service(child("raise SystemExit(3)"), _logged_up, 0))

    supervisor.watch()

    eventually(lambda: told.has("status 3; it starts again in 0.3 s"))
    delays = [line.split(" in ")[1].split()[0] for line in told.lines if "starts again" in line]
    assert delays[:3] == ["0.1", "0.2", "0.3"]


def test_child_that_can_no_longer_start_is_tried_again(
    supervisor: Supervisor, told: Told, tmp_path: Path, eventually: Eventually
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho up\nexec sleep 600\n")
    program.chmod(0o700)
    child = Child("program", [str(program)], env={}, cwd=tmp_path, log_path=tmp_path / "log")
    supervisor.start(Service(child, _logged_up, 0))
    supervisor.wait_ready(10, threading.Event())
    supervisor.watch()
    program.rename(tmp_path / "away")
    os.killpg(child.pid, signal.SIGKILL)
    eventually(lambda: told.has("status 127; it starts again in 0.2 s"))

    (tmp_path / "away").rename(program)

    eventually(lambda: told.has("program runs again"))


def test_services_stop_stage_by_stage(supervisor: Supervisor, child: MakeChild, tmp_path: Path) -> None:
    program = (
        "import signal, sys\n"
        "def end(*_):\n"
        "    with open('ends', 'a') as ends: ends.write({name!r} + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up')\n"
        "while True: signal.pause()\n"
    )
    for name, stage in (("server", 9), ("worker", 0), ("facade", 3)):
        supervisor.start(Service(child(program.format(name=name), name=name), _logged_up, stage))
    supervisor.wait_ready(10, threading.Event())
    supervisor.watch()

    supervisor.stop(threading.Event())

    assert (tmp_path / "ends").read_text().split() == ["worker", "facade", "server"]


def test_haste_kills_a_worker_that_drains_but_no_server(supervisor: Supervisor, child: MakeChild) -> None:
    slow = (
        "import signal, threading\n"
        "done = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: threading.Timer({after}, done.set).start())\n"
        "print('up')\n"
        "while not done.wait(0.05): pass\n"
    )
    worker = child(slow.format(after=600), name="worker", stop_grace=600)
    server = child(slow.format(after=0.5), name="server", stop_grace=600)
    statuses: dict[str, int | None] = {}
    for program, stage in ((worker, 0), (server, 1)):
        hastened = program is worker
        supervisor.start(Service(program, _logged_up, stage, may_be_hastened=hastened))
        _remember_status(program, statuses)
    supervisor.wait_ready(10, threading.Event())
    hasten = threading.Event()
    hasten.set()

    supervisor.stop(hasten)

    assert statuses == {"worker": 137, "server": 0}


def test_child_that_ends_before_it_is_ready_shows_its_log(supervisor: Supervisor, child: MakeChild) -> None:
    supervisor.start(Service(child("raise SystemExit('no such table')"), _logged_up, 0))

    with pytest.raises(ChildFailed, match=r"(?s)program ended with status 1 before.*no such table"):
        supervisor.wait_ready(10, threading.Event())


def test_child_that_is_late_shows_its_log(supervisor: Supervisor, child: MakeChild) -> None:
    supervisor.start(Service(child(FOREVER), lambda _: False, 0))

    with pytest.raises(ChildFailed, match=r"(?s)program is not ready after 0 s;.*ends:"):
        supervisor.wait_ready(0.3, threading.Event())


def test_stop_cuts_the_wait_for_readiness_short(supervisor: Supervisor, child: MakeChild) -> None:
    supervisor.start(Service(child(FOREVER), lambda _: False, 0))
    stop = threading.Event()
    stop.set()

    assert not supervisor.wait_ready(600, stop)


def _remember_status(child: Child, statuses: dict[str, int | None]) -> None:
    close = child.close

    def remember() -> None:
        statuses.setdefault(child.name, child.poll())
        close()

    child.close = remember  # type: ignore[method-assign]
