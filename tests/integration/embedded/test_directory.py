"""One process at a time works in a data directory, and only in one that is its own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gifty_compute.embedded.directory import DataDirectory
from gifty_compute.embedded.errors import DirectoryInUse, EmbeddedError
from gifty_compute.embedded.sockets import make_socket_directory, remove_socket_directory

IsRunning = Callable[[int], bool]

# Holds the directory and starts a child that needs a moment to end.
HOLDER = """
import signal, sys
from pathlib import Path
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.directory import DataDirectory
directory = DataDirectory(Path(sys.argv[1]))
directory.acquire()
slow = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')\\nwhile 1: signal.pause()"
child = Child('slow', [sys.executable, '-I', '-u', '-c', slow], env={}, cwd=directory.path,
              log_path=directory.path / 'slow.log', stop_grace=0.5, hold=directory.hold)
child.start()
while 'deaf' not in child.log_since_start():
    child.wait(0.01)
print(child.pid, flush=True)
signal.pause()
"""


def test_directory_is_private(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "a" / "b")

    directory.acquire()

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    directory.release()


def test_second_holder_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path / "data")
    first.acquire()

    with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}: .*--data-dir"):
        DataDirectory(tmp_path / "data").acquire()
    first.release()


def test_released_directory_can_be_taken(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path / "data")
    first.acquire()
    first.release()
    second = DataDirectory(tmp_path / "data")

    second.acquire()

    second.release()


def test_next_holder_waits_for_the_children_of_a_killed_one(tmp_path: Path, is_running: IsRunning) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "data")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    was_running = is_running(child)
    directory = DataDirectory(tmp_path / "data")

    directory.acquire()

    assert was_running
    assert not is_running(child)
    directory.release()


def test_directory_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(EmbeddedError, match="is not empty and not private"):
        DataDirectory(tmp_path).acquire()

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_left_over_socket_directory_is_removed_by_the_next(tmp_path: Path) -> None:
    left = make_socket_directory(tmp_path / "sockets")
    (left / "socket").touch()

    new = make_socket_directory(tmp_path / "sockets")

    assert not left.exists()
    remove_socket_directory(tmp_path / "sockets")
    assert not new.exists()


def test_record_that_names_another_directory_removes_nothing(tmp_path: Path) -> None:
    other = tmp_path / "gifty-looks-like-ours"
    other.mkdir(mode=0o755)
    (tmp_path / "sockets").write_text(str(other))

    remove_socket_directory(tmp_path / "sockets")

    assert other.exists()
