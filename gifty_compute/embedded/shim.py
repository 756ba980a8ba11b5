"""Stands between `up` and one child, so that the child never outlives `up`.

Run as `python -I -S shim.py FD STOP_SIGNAL GRACE -- command...`; standard library only, because
one of these runs beside every child.

FD is one end of a socket pair. The shim writes the command's pid to it once, and reads the end of
file that the kernel sends when the other end's holder is gone, however it went. Then, or at
SIGTERM, the command's process group gets STOP_SIGNAL, and SIGKILL after GRACE seconds; a second
SIGTERM kills at once. The exit status is the command's, 128 + n when signal n ended it.

A parent-death signal would not do: it is not inherited by grandchildren, and PostgreSQL's backends
leave the process group besides. So the shim is also the reaper of every orphan below it, and ends
only when nothing of the command's is left.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36
# With `up` gone nobody waits for a drain, and the next `up` waits for us.
_ORPHAN_GRACE = 3.0


class _Shim:
    def __init__(self, channel: socket.socket, stop_signal: int, grace: float) -> None:
        self._channel = channel
        self._stop_signal = stop_signal
        self._grace = grace
        self._stopping = False
        self._selector = selectors.DefaultSelector()

    def run(self, command: list[str]) -> int:
        """Run the command to its end and return its exit status."""
        signals = _receive_signals()
        _adopt_orphans()
        try:
            child = subprocess.Popen(command, process_group=0)  # noqa: S603 - up chose the command
        except OSError as exc:
            print(f"cannot start {command[0]}: {exc}", file=sys.stderr)
            return 127
        with contextlib.suppress(ConnectionError):  # up is gone; the end of file follows
            self._channel.sendall(f"{child.pid}\n".encode())
        self._selector.register(signals, selectors.EVENT_READ)
        self._selector.register(self._channel, selectors.EVENT_READ)
        while (status := child.poll()) is None:
            self._wait(child, signals)
        _kill_remains(child.pid)
        return status if status >= 0 else 128 - status

    def _wait(self, child: subprocess.Popen[bytes], signals: socket.socket) -> None:
        for key, _ in self._selector.select():
            if key.fileobj is self._channel:
                self._selector.unregister(self._channel)
                self._stop(child, min(self._grace, _ORPHAN_GRACE))
                continue
            for number in signals.recv(64):
                if number == signal.SIGTERM:
                    self._stop(child, self._grace)
                elif number == signal.SIGALRM:
                    _signal_group(child.pid, signal.SIGKILL)
                elif number == signal.SIGCHLD:
                    _reap_orphans(child)

    def _stop(self, child: subprocess.Popen[bytes], grace: float) -> None:
        if self._stopping:
            _signal_group(child.pid, signal.SIGKILL)
            return
        self._stopping = True
        # The timer needs no clock, and its signal wakes the same wait as all others.
        signal.setitimer(signal.ITIMER_REAL, max(grace, 0.001))
        _signal_group(child.pid, self._stop_signal)


def _receive_signals() -> socket.socket:
    """Turn the signals the shim knows into bytes on the returned socket.

    They get a handler and are not ignored: a command would inherit that they are ignored.
    """
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, _only_wake)
    return reading


def _only_wake(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor already carries the signal's number."""


def _adopt_orphans() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _reap_orphans(child: subprocess.Popen[bytes]) -> None:
    """Collect the dead, except the command itself, whose status `Popen.poll` reads."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, flags)) and dead.si_pid != child.pid:
            os.waitpid(dead.si_pid, 0)


def _kill_remains(group: int) -> None:
    _signal_group(group, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.wait()  # its own children, if any, are ours by now
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    """Pids of this process's children. (/proc/self/task/*/children is an optional kernel part.)"""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # "pid (name) state ppid ...", where the name may hold anything, brackets too
            if int(stat.rpartition(b")")[2].split()[1]) == os.getpid():
                yield int(entry)


def main() -> int:
    """Read the command line and run."""
    descriptor, stop_signal, grace, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        print("usage: shim.py FD STOP_SIGNAL GRACE -- command...", file=sys.stderr)
        return 2
    channel = socket.socket(fileno=int(descriptor))
    channel.set_inheritable(False)
    return _Shim(channel, int(stop_signal), float(grace)).run(command)


if __name__ == "__main__":
    # At once: while the interpreter is taken down, a late SIGTERM would replace the status.
    os._exit(main())
