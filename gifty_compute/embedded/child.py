"""One program that lives and dies with this process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gifty_compute.embedded.errors import ChildFailed

__all__ = ["Child"]

_SHIM = Path(__file__).with_name("shim.py")
_START_LIMIT = 20.0
# What the shim may need on top of the command's grace to see that everything has ended.
_SHIM_MARGIN = 10.0
_TAIL_BYTES = 4000
_TAIL_LINES = 15


class Child:
    """A program under a shim: in a session of its own, so that Ctrl-C in the terminal passes it by,
    and stopped by the shim, with all its descendants, if this process dies in whatever way.

    Standard output and error are appended to `log_path`. `hold` are descriptors that stay open
    until the last of the program's descendants has ended; a lock on one of them outlives us.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        stop_signal: int = signal.SIGTERM,
        stop_grace: float = 10.0,
        hold: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.stop_limit = stop_grace + _SHIM_MARGIN
        self._stop_grace = stop_grace
        self._argv = list(argv)
        self._env = dict(env)
        self._cwd = cwd
        self._stop_signal = stop_signal
        self._hold = tuple(hold)
        self._shim: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pid: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The program's own pid, which is also its process group."""
        if self._pid is None:
            raise ChildFailed(f"{self.name} was not started, so it has no pid")
        return self._pid

    def fileno(self) -> int:
        """A descriptor that becomes readable when the child has ended."""
        if self._channel is None:
            raise ChildFailed(f"{self.name} was not started, so there is nothing to wait for")
        return self._channel.fileno()

    def start(self) -> None:
        """Start the program; return when it exists. After its end, start it anew."""
        self.close()
        self._pid = None
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, self._open_log() as log:
            self._log_start = os.fstat(log).st_size
            self._shim = subprocess.Popen(  # noqa: S603 - the caller chose the command
                [*self._shim_argv(theirs.fileno()), "--", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                pass_fds=(theirs.fileno(), *self._hold),
            )
        self._channel = ours
        self._pid = self._read_pid(ours)

    def poll(self) -> int | None:
        """The exit status (128 + n for signal n), or None while the program runs."""
        return None if self._shim is None else self._shim.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; None when `timeout` seconds were not enough."""
        if self._shim is None:
            return None
        try:
            return self._shim.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def request_stop(self) -> None:
        """Ask for a stop and return; asking again makes it immediate."""
        if self.poll() is None and self._shim is not None:
            self._shim.terminate()

    def stop(self) -> int | None:
        """Stop and wait until nothing of the program is left; return the exit status."""
        self.request_stop()
        status = self.wait(self.stop_limit)
        self.close()
        return status

    def close(self) -> None:
        """Forget an ended child; kill one that hangs, and what a killed shim has left."""
        self._close_channel()
        if self._shim is None or self._shim.poll() not in (None, -signal.SIGKILL):
            return
        self._shim.kill()
        self._shim.wait()
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            self._pid = None

    def log_tail(self) -> str:
        """The last lines of the log, indented, for an error message."""
        try:
            text = self.log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        except FileNotFoundError:
            return "  (no log)"
        lines = text.splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"

    def log_since_start(self) -> str:
        """What the program has logged since it was started last."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _shim_argv(self, descriptor: int) -> list[str]:
        numbers = (descriptor, int(self._stop_signal), self._stop_grace)
        return [sys.executable, "-I", "-S", str(_SHIM), *map(str, numbers)]

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[int]:
        log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield log
        finally:
            os.close(log)

    def _read_pid(self, channel: socket.socket) -> int:
        channel.settimeout(_START_LIMIT)
        try:
            line = channel.recv(32)
        except TimeoutError:
            self.close()
            raise ChildFailed(f"{self.name} did not start within {_START_LIMIT:.0f} s") from None
        if not line:
            self.wait(_SHIM_MARGIN)
            self._close_channel()
            raise ChildFailed(f"{self.name} did not start; {self.log_path} ends:\n{self.log_tail()}")
        return int(line)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
