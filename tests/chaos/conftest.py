"""What chaos needs: stores of its own, a fleet over them, and a table of what became of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import connect
from tests.chaos.fleet import Audit, Fleet
from tests.conftest import create_database
from tests.integration.conftest import core, facade_url, settings

__all__ = ["core", "facade_url", "settings"]

# Programs, which plant failpoints into whatever imports them.
collect_ignore_glob = ["crashing*.py"]

_rows: list[tuple[str, str, Audit]] = []


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Valkey]]:
    """A PostgreSQL and a Valkey that the tests of chaos may stop: not those of everybody else."""
    postgres, valkey = Postgres(tmp_path_factory.mktemp("pg")), Valkey(tmp_path_factory.mktemp("vk"))
    postgres.start()
    valkey.start()
    yield postgres, valkey
    postgres.stop()
    valkey.stop()


@pytest.fixture
def new_fleet(servers: tuple[Postgres, Valkey], tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes a fleet on a database of its own; `database_url` and `redis_url` may lead through a proxy."""
    postgres, valkey = servers
    dsn = create_database(postgres)
    database = connect(dsn)
    migrate(database.engine)
    database.close()
    made: list[Fleet] = []

    def make(
        database_url: Callable[[str], str] = str, redis_url: Callable[[str], str] = str, **environ: str
    ) -> Fleet:
        fleet = Fleet(tmp_path, database_url(dsn), redis_url(valkey.url), **environ)
        fleet.auditors_url = dsn
        fleet.tell_everybody()
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, Audit], None]:
    """Adds a line to the table that is printed at the end, and demands that nothing was lost or doubled."""

    def add(scale: str, audit: Audit) -> None:
        _rows.append((request.node.name, scale, audit))
        audit.demand()

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    terminalreporter.section("chaos: what became of the tasks")
    line = "{:<58} {:<26} {:>8} {:>5} {:>9} {:>7} {:>7} {:>11} {:>10}"
    heads = ("test", "scale", "accepted", "lost", "stranded", "failed", "doubled", "begun again", "rescue, s")
    terminalreporter.write_line(line.format(*heads))
    for name, scale, audit in _rows:
        counts = (audit.accepted, audit.lost, audit.stranded, audit.failed, audit.double, audit.begun_again)
        terminalreporter.write_line(line.format(name[5:63], scale, *counts, f"{audit.slowest_rescue:.1f}"))
