"""A PostgreSQL server of our own: one cluster, one user, one database, one Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psycopg2

from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.embedded.binaries import PostgresPrograms, find_postgres
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.errors import ChildFailed, EmbeddedError
from gifty_compute.embedded.private import (
    make_private_directory,
    read_or_make_secret,
    sync_directory,
)
from gifty_compute.embedded.sockets import make_socket_directory, remove_socket_directory
from gifty_compute.embedded.unprivileged import Guise, find_guise

__all__ = ["Postgres"]

_USER = "gifty"
_DATABASE = "gifty"
_INITDB_LIMIT = 120.0
_STOP_GRACE = 30.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    # A statement that fails holds what a caller sent; its error is logged, its text is not.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Short statements only: compiling a plan costs more than running it.
    "jit": "off",
    # A queue is one hot table whose rows all die; the defaults wait for a fifth of it.
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_delay": "1ms",
}


class Postgres:
    """PostgreSQL in `data_dir`, which holds the cluster, the password (0600) and the log.

    What was committed survives `kill -9` and a crash of the machine: fsync stays on. `hold` goes
    to `Child`. The server is reachable through a socket in a directory of its own, nowhere else.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        log_path: Path | None = None,
        hold: Sequence[int] = (),
        programs: PostgresPrograms | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._log_path = log_path or data_dir / "postgres.log"
        self._hold = hold
        self._programs = programs or find_postgres()
        self._clock = clock or SystemClock()
        self._cluster = data_dir / "cluster"
        self._sockets_record = data_dir / "sockets"
        self._sockets: Path | None = None
        self._password = ""
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """For psycopg2 and SQLAlchemy; known once prepared."""
        return self._url(_DATABASE)

    @property
    def child(self) -> Child:
        """The server's process; known once prepared."""
        if self._child is None:
            raise EmbeddedError(f"PostgreSQL in {self.data_dir} was not prepared")
        return self._child

    def start(self) -> None:
        """Make the cluster if there is none, start the server, return when it answers."""
        self.prepare()
        try:
            self.child.start()
            self.wait_ready()
        except EmbeddedError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server cleanly (sessions are cut, a checkpoint is written)."""
        if self._child is not None:
            self._child.stop()
            remove_socket_directory(self._sockets_record)

    def prepare(self) -> None:
        """Do all that comes before the server's process: afterwards `child` can be started."""
        make_private_directory(self.data_dir)
        self._password = read_or_make_secret(self.data_dir / "password")
        guise = find_guise()
        if not self._cluster.exists():
            self._init_cluster(guise)
        guise.own(self._cluster)
        self._check_version()
        self._remove_stale_pid()
        self._sockets = make_socket_directory(self._sockets_record)
        self._child = Child(
            "postgres",
            [*guise.prefix, str(self._programs.postgres), "-D", str(self._cluster), *self._flags()],
            env=_environment(),
            cwd=self.data_dir,
            log_path=self._log_path,
            # "Fast": SIGTERM would wait for every session to leave by itself.
            stop_signal=signal.SIGINT,
            stop_grace=_STOP_GRACE,
            hold=self._hold,
        )

    def wait_ready(self, limit: float = 120.0) -> None:
        """Return when a session opens and the database exists; after a crash the log is replayed
        first, which may take a while.
        """
        deadline = Deadline.after(limit, self._clock)
        while True:
            try:
                self._ensure_database()
                return
            except psycopg2.OperationalError as exc:
                if (status := self.child.wait(0.05)) is not None:
                    raise ChildFailed(
                        f"PostgreSQL ended with status {status};"
                        f" {self._log_path} ends:\n{self.child.log_tail()}"
                    ) from exc
                if deadline.expired:
                    raise ChildFailed(
                        f"PostgreSQL does not answer after {limit:.0f} s ({exc});"
                        f" {self._log_path} ends:\n{self.child.log_tail()}"
                    ) from exc

    def _url(self, database: str) -> str:
        if self._sockets is None:
            raise EmbeddedError(f"PostgreSQL in {self.data_dir} was not prepared")
        host = quote(str(self._sockets), safe="")
        return f"postgresql://{_USER}:{self._password}@/{database}?host={host}"

    def _flags(self) -> list[str]:
        # Quoted as one item of a list, because a directory's name may hold a comma.
        settings = _SETTINGS | {"unix_socket_directories": f'"{self._sockets}"'}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _init_cluster(self, guise: Guise) -> None:
        """Make the cluster beside its place and move it there whole.

        A crash in the middle leaves a directory that the next start throws away.
        """
        unfinished = self.data_dir / "cluster.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        guise.own(unfinished)
        run = subprocess.run(  # noqa: S603 - our own command
            [*guise.prefix, str(self._programs.initdb), *self._initdb_flags(unfinished)],
            capture_output=True,
            check=False,
            cwd=self.data_dir,
            env=_environment(),
            timeout=_INITDB_LIMIT,
        )
        if run.returncode != 0:
            said = run.stderr.decode(errors="replace").strip()
            raise EmbeddedError(f"initdb in {unfinished} ended with {run.returncode}: {said}")
        unfinished.rename(self._cluster)
        sync_directory(self.data_dir)

    def _initdb_flags(self, directory: Path) -> list[str]:
        flags = ["-D", str(directory), f"--username={_USER}", "--auth=scram-sha-256"]
        flags += [f"--pwfile={self.data_dir / 'password'}", "--encoding=UTF8", "--locale=C"]
        if self._programs.major >= 17:
            # Sorts by code point like C, but knows upper and lower case of every script,
            # and depends on no locale of the machine.
            flags += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return flags

    def _check_version(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        if made_by != str(self._programs.major):
            raise EmbeddedError(
                f"{self._cluster} was made by PostgreSQL {made_by}, but"
                f" {self._programs.postgres} is {self._programs.major}: install PostgreSQL"
                f" {made_by}, or use another data directory"
            )

    def _remove_stale_pid(self) -> None:
        """Remove a dead server's postmaster.pid, whose number may be another process's by now.

        PostgreSQL would take that process for a server of its own and refuse to start.
        """
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
            directory = Path(os.readlink(f"/proc/{pid}/cwd"))
        except (FileNotFoundError, ProcessLookupError):
            return  # no such file, or no such process, which PostgreSQL sees for itself
        except ValueError as error:
            raise EmbeddedError(
                f"{pid_file} holds no process id, as if the machine had stopped while it was written:"
                " remove it if no PostgreSQL server runs there"
            ) from error
        if directory != self._cluster.resolve():
            pid_file.unlink()
            return
        raise EmbeddedError(
            f"a PostgreSQL server (process {pid}) already runs in {self._cluster}:"
            f" stop it with `kill -INT {pid}`"
        )

    def _ensure_database(self) -> None:
        connection = psycopg2.connect(self._url("postgres"), connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (_DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{_DATABASE}"')
        finally:
            connection.close()


def _environment() -> dict[str, str]:
    """Nothing of the caller's but PATH: PGDATA, PGPORT or a locale would change the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
