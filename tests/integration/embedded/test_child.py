"""A child ends as asked, and never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gifty_compute.embedded.child import Child
from gifty_compute.embedded.errors import ChildFailed

Eventually = Callable[[Callable[[], bool]], None]
MakeChild = Callable[..., Child]
IsRunning = Callable[[int], bool]

FOREVER = "import signal; print('up'); signal.pause()"
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up')
while True:
    signal.pause()
"""
# A grandchild in a session of its own, as PostgreSQL's backends are, deaf to polite signals.
ESCAPING = f"""
import signal, subprocess, sys
escaped = subprocess.Popen([sys.executable, '-I', '-u', '-c', {DEAF!r}], start_new_session=True)
print('escaped', escaped.pid)
signal.pause()
"""
# A parent like `up`: starts a child, tells the pids, and is then killed by the test.
PARENT = """
import signal, sys
from pathlib import Path
from gifty_compute.embedded.child import Child
log = Path(sys.argv[1])
child = Child('program', [sys.executable, '-I', '-u', '-c', sys.argv[2]],
              env={}, cwd=log.parent, log_path=log, stop_grace=0.2)
child.start()
print(child.pid, flush=True)
signal.pause()
"""


def test_exit_status_is_the_programs(child: MakeChild) -> None:
    program = child("raise SystemExit(7)")

    program.start()

    assert program.wait(10) == 7


def test_death_by_signal_reads_as_a_shell_would_say_it(child: MakeChild) -> None:
    program = child(FOREVER)
    program.start()

    os.killpg(program.pid, signal.SIGKILL)

    assert program.wait(10) == 128 + signal.SIGKILL


def test_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = Child("ghost", ["/no/such"], env={}, cwd=tmp_path, log_path=tmp_path / "ghost.log")

    with pytest.raises(ChildFailed, match=r"(?s)ghost did not start; .*ghost.log ends:.*/no/such"):
        missing.start()


def test_stop_sends_the_chosen_signal(child: MakeChild, eventually: Eventually) -> None:
    program = child(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        "print('up')\n"
        "while True: signal.pause()\n",
        stop_signal=signal.SIGINT,
    )
    program.start()
    eventually(lambda: "up" in program.log_since_start())

    status = program.stop()

    assert status == 5


def test_stop_kills_a_deaf_program_after_its_grace(child: MakeChild, eventually: Eventually) -> None:
    program = child(DEAF, stop_grace=0.2)
    program.start()
    eventually(lambda: "up" in program.log_since_start())

    status = program.stop()

    assert status == 128 + signal.SIGKILL


def test_second_request_to_stop_does_not_wait_for_the_grace(child: MakeChild, eventually: Eventually) -> None:
    program = child(DEAF, stop_grace=600)
    program.start()
    eventually(lambda: "up" in program.log_since_start())

    program.request_stop()
    program.request_stop()

    # Two signals of one kind may arrive as one, so a third makes it certain.
    eventually(lambda: program.request_stop() or program.poll() is not None)
    assert program.poll() == 128 + signal.SIGKILL


def test_child_can_be_started_anew(child: MakeChild, eventually: Eventually) -> None:
    program = child(FOREVER)
    program.start()
    first = program.pid
    program.stop()

    program.start()

    assert program.pid != first
    assert program.poll() is None
    eventually(lambda: program.log_since_start() == "up\n")


def test_terminal_signals_do_not_reach_the_child(child: MakeChild) -> None:
    program = child(FOREVER)

    program.start()

    assert os.getsid(program.pid) != os.getsid(0)
    assert os.getpgid(program.pid) == program.pid


@pytest.mark.parametrize("program", [FOREVER, DEAF], ids=["obedient", "deaf"])
def test_killed_parent_leaves_nothing_running(
    program: str, tmp_path: Path, eventually: Eventually, is_running: IsRunning
) -> None:
    with _parent(tmp_path, program) as parent:
        pid = _first_number(parent)

        parent.kill()

    eventually(lambda: not is_running(pid))


def test_killed_parent_leaves_no_grandchild_that_left_the_group(
    tmp_path: Path, eventually: Eventually, is_running: IsRunning
) -> None:
    log = tmp_path / "program.log"
    with _parent(tmp_path, ESCAPING) as parent:
        pid = _first_number(parent)
        eventually(lambda: "escaped" in log.read_text())
        escaped = int(log.read_text().split()[1])

        parent.kill()

    eventually(lambda: not is_running(pid) and not is_running(escaped))


def test_killed_shim_leaves_no_program_behind_a_restart(
    child: MakeChild, eventually: Eventually, is_running: IsRunning
) -> None:
    program = child(FOREVER)
    program.start()
    orphan = program.pid
    os.kill(os.getsid(orphan), signal.SIGKILL)  # the shim leads the session
    program.wait(10)

    program.start()

    eventually(lambda: not is_running(orphan))
    assert is_running(program.pid)


def _parent(tmp_path: Path, program: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "program.log"), program]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _first_number(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())
