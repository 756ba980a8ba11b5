"""A Valkey (or Redis) server of our own, on one Unix socket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redis

from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.embedded.binaries import find_valkey
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.errors import ChildFailed, EmbeddedError
from gifty_compute.embedded.private import (
    make_private_directory,
    read_or_make_secret,
    write_private,
)
from gifty_compute.embedded.sockets import make_socket_directory, remove_socket_directory

__all__ = ["Valkey"]

# Nothing is written to disk: the database is the truth, all that is here is announced again or
# measured again, and an old state that comes back only names tasks that are done by now.
# Full means an error, which the publisher bears; evicted would mean lost without a word.
_CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
daemonize no
save ""
appendonly no
maxmemory 512mb
maxmemory-policy noeviction
"""


class Valkey:
    """Valkey in `data_dir`, which holds the password (0600), the config (0600) and the log.

    It forgets everything when it ends. `hold` goes to `Child`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        log_path: Path | None = None,
        hold: Sequence[int] = (),
        program: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._log_path = log_path or data_dir / "valkey.log"
        self._hold = hold
        self._program = program or find_valkey()
        self._clock = clock or SystemClock()
        self._sockets_record = data_dir / "sockets"
        self._socket: Path | None = None
        self._password = ""
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """For redis-py; known once prepared."""
        if self._socket is None:
            raise EmbeddedError(f"Valkey in {self.data_dir} was not prepared")
        return f"unix://:{self._password}@{quote(str(self._socket))}?db=0"

    @property
    def child(self) -> Child:
        """The server's process; known once prepared."""
        if self._child is None:
            raise EmbeddedError(f"Valkey in {self.data_dir} was not prepared")
        return self._child

    def start(self) -> None:
        """Start the server; return when it answers."""
        self.prepare()
        try:
            self.child.start()
            self.wait_ready()
        except EmbeddedError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, and with it all that it knew."""
        if self._child is not None:
            self._child.stop()
            remove_socket_directory(self._sockets_record)

    def prepare(self) -> None:
        """Do all that comes before the server's process: afterwards `child` can be started."""
        make_private_directory(self.data_dir)
        self._password = read_or_make_secret(self.data_dir / "password")
        self._socket = make_socket_directory(self._sockets_record) / "valkey.sock"
        config = self.data_dir / "valkey.conf"
        # In a file: a command line is there for every user of the machine to read.
        write_private(config, _CONFIG.format(socket=self._socket, password=self._password))
        self._child = Child(
            "valkey",
            [str(self._program), str(config)],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            cwd=self.data_dir,
            log_path=self._log_path,
            hold=self._hold,
        )

    def wait_ready(self, limit: float = 30.0) -> None:
        """Return when the server answers a PING."""
        deadline = Deadline.after(limit, self._clock)
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError as exc:
                    if (status := self.child.wait(0.02)) is not None:
                        raise ChildFailed(
                            f"Valkey ended with status {status};"
                            f" {self._log_path} ends:\n{self.child.log_tail()}"
                        ) from exc
                    if deadline.expired:
                        raise ChildFailed(
                            f"Valkey does not answer after {limit:.0f} s ({exc});"
                            f" {self._log_path} ends:\n{self.child.log_tail()}"
                        ) from exc
