"""The whole of gifty-compute on one machine: servers, facade, workers, Flower."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from gifty_compute.clock import Clock, Deadline, SystemClock
from gifty_compute.embedded.child import Child
from gifty_compute.embedded.directory import DataDirectory
from gifty_compute.embedded.errors import ChildFailed, EmbeddedError
from gifty_compute.embedded.supervisor import Service, Supervisor
from gifty_compute.settings import FACADE_THREADS
from gifty_compute.stack.credentials import Credentials, read_or_make_credentials
from gifty_compute.stack.environment import (
    children_environment,
    choose_logic,
    read_chosen_logic,
    with_keys_file,
)
from gifty_compute.stack.interrupts import Interrupts
from gifty_compute.stack.options import Options, find_checkout
from gifty_compute.stack.ports import choose_addresses
from gifty_compute.stack.programs import Addresses, Program, StopStage, migration, programs
from gifty_compute.stack.readiness import alive
from gifty_compute.stack.runfile import RunInfo, write_run_info
from gifty_compute.stack.servers import Servers, choose_servers
from gifty_compute.stack.serving import Serving, choose_models

__all__ = ["Stack"]

_READY_LIMIT = 60.0
# Where workers load models of gigabytes.
_LOADING_LIMIT = 600.0
_MIGRATION_LIMIT = 600.0


class Stack:
    """Everything that `gifty-compute up` runs, as children of this process.

    with Stack(options, announce=print) as stack:   # starts, and stops however the block ends
        if stack.wait_ready():
            ... stack.info.api_url ...

    A child that ends is started again once the stack is ready. `interrupts.stop` cuts the start
    short; `interrupts.hasten` cuts the drain short.
    """

    def __init__(
        self,
        options: Options,
        announce: Callable[[str], None],
        *,
        environ: Mapping[str, str] | None = None,
        checkout: Path | None = None,
        interrupts: Interrupts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._options = options
        self._announce = announce
        self._environ = dict(os.environ if environ is None else environ)
        self._checkout = checkout or find_checkout()
        self._interrupts = interrupts or Interrupts()
        self._clock = clock or SystemClock()
        self._data_dir = options.data_dir.absolute()
        self._logs = self._data_dir / "logs"
        self._run_file = self._data_dir / "run.json"
        self._supervisor = Supervisor(announce, on_change=self._write_run_file, clock=self._clock)
        self._undo = contextlib.ExitStack()
        self._info: RunInfo | None = None
        self._serving = Serving()

    @property
    def info(self) -> RunInfo:
        """Where the stack is; known once started."""
        if self._info is None:
            raise EmbeddedError("the stack was not started, so it is nowhere")
        return self._info

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; on failure stop what was started, and say what failed.

        Raises InvalidConfig for a bad logic.yaml or file of keys, before anything is started.
        """
        with contextlib.ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()

    def wait_ready(self, limit: float | None = None) -> bool:
        """Wait until all programs are ready, then keep them running; False when stopped meanwhile."""
        limit = limit or (_READY_LIMIT if self._serving.is_light else _LOADING_LIMIT)
        if not self._supervisor.wait_ready(limit, self._interrupts.stop):
            return False
        self._supervisor.watch()
        return True

    def stop(self) -> None:
        """Drain the workers, then stop the rest, the servers last. Doing it twice changes nothing."""
        self._undo.close()

    def _start(self, undo: contextlib.ExitStack) -> None:
        environ = with_keys_file(self._environ, self._data_dir)
        logic = choose_logic(environ, self._checkout, self._announce)
        self._serving = choose_models(read_chosen_logic(logic, environ), self._options, environ)
        for line in self._serving.lines:
            self._announce(line)
        directory = DataDirectory(self._data_dir, clock=self._clock)
        directory.acquire()
        undo.callback(directory.release)
        self._run_file.unlink(missing_ok=True)
        addresses = choose_addresses(self._options.port)
        credentials = read_or_make_credentials(self._environ, self._data_dir / "secrets.json")
        servers = choose_servers(self._environ, self._data_dir, log_dir=self._logs, hold=directory.hold)
        undo.callback(self._stop_children, servers)
        self._start_servers(servers)
        environment = children_environment(
            environ,
            options=self._options,
            credentials=credentials,
            database_url=servers.database_url(),
            redis_url=servers.redis_url(),
            logic=logic,
            models=self._serving.celery,
        )
        self._migrate(environment, directory.hold)
        for program in self._programs(addresses, credentials):
            if program.after is not None:
                self._supervisor.wait_ready(_READY_LIMIT, self._interrupts.stop, only=program.after)
            if not self._interrupts.stop.is_set():
                self._supervisor.start(self._service(program, environment, directory.hold))
        self._info = self._describe(addresses, credentials, servers)
        undo.callback(self._run_file.unlink, missing_ok=True)
        self._write_run_file()

    def _start_servers(self, servers: Servers) -> None:
        for server in servers.own:
            server.prepare()
            self._supervisor.start(Service(server.child, alive, StopStage.SERVERS, may_be_hastened=False))
        for server in servers.own:
            server.wait_ready()

    def _stop_children(self, servers: Servers) -> None:
        self._supervisor.stop(self._interrupts.hasten)
        for server in servers.own:
            server.stop()

    def _programs(self, addresses: Addresses, credentials: Credentials) -> list[Program]:
        return programs(
            self._options,
            addresses,
            beat_schedule=self._data_dir / "beat",
            flower_auth=credentials.flower_auth,
            internal_token=credentials.internal_token,
            facade_threads=self._environ.get("FACADE_THREADS") or str(FACADE_THREADS),
            poll_models=self._serving.poll,
        )

    def _service(self, program: Program, environment: Mapping[str, str], hold: tuple[int, ...]) -> Service:
        child = Child(
            program.name,
            program.argv,
            env={**environment, **program.env},
            cwd=self._checkout,
            log_path=self._logs / f"{program.name}.log",
            stop_grace=program.stop_grace,
            hold=hold,
        )
        return Service(child, program.ready, program.stop_stage)

    def _migrate(self, environment: Mapping[str, str], hold: tuple[int, ...]) -> None:
        """Bring the tables up to date, in a process of its own that ends with us."""
        child = Child(
            "migrate",
            migration(),
            env=environment,
            cwd=self._checkout,
            log_path=self._logs / "migrate.log",
            hold=hold,
        )
        child.start()
        deadline = Deadline.after(_MIGRATION_LIMIT, self._clock)
        while (status := child.wait(0.1)) is None:
            if deadline.expired or self._interrupts.stop.is_set():
                status = child.stop()
                break
        child.close()
        if status != 0 and not self._interrupts.stop.is_set():
            raise ChildFailed(
                f"the migration ended with status {status}; {child.log_path} ends:\n{child.log_tail()}"
            )

    def _describe(self, addresses: Addresses, credentials: Credentials, servers: Servers) -> RunInfo:
        return RunInfo(
            api_url=addresses.api_url,
            api_token=credentials.api_token,
            internal_token=credentials.internal_token,
            ops_token=credentials.ops_token,
            callback_secret=credentials.callback_secret,
            database_url=servers.database_url(),
            redis_url=servers.redis_url(),
            flower_url=addresses.flower_url,
            flower_auth=credentials.flower_auth,
            data_dir=str(self._data_dir),
            pids={},
        )

    def _write_run_file(self) -> None:
        self._info = replace(self.info, pids={"up": os.getpid(), **self._supervisor.pids})
        write_run_info(self._run_file, self._info)
