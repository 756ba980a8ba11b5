"""Real servers for the whole run: PostgreSQL and Valkey from their wheels, started once in each process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg2
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey
from gifty_compute.logic.logic import Logic
from gifty_compute.logic.source import read_logic
from gifty_compute.migrations import migrate
from gifty_compute.queue.database import Database, connect
from gifty_compute.queue.leases import LeaseStore
from gifty_compute.queue.sight import Sight
from gifty_compute.queue.tasks import TaskStore

ROOT = Path(__file__).parent.parent
LOCAL_LOGIC = ROOT / "configs" / "logic.local.yaml"
EVERY_CLIENT = Sight(("shop", "backend", "jobs", ""))
"""Those that tests submit for."""

# Of the whole suite, which mostly waits: 4 take two cores, and each has servers of its own.
_PROCESSES = 4
# Their tests share a stack, a cluster or a model, or take every core: one process does all of a folder.
_TOGETHER = ("tests/e2e/", "tests/integration/embedded/", "tests/unit/engines/")
# Each file of them has a judge of its own, which takes a while to begin.
_JUDGES = "tests/judges/"

_numbers = itertools.count(1)
_TABLES = (
    "compute_tasks",
    "compute_batches",
    "compute_worker_tokens",
    "compute_claims",
    "compute_maintenance",
    "compute_spending",
    "compute_spending_writers",
    "compute_workers",
    "compute_samples",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` of `make test` means; a part that was named stays in one process: it starts sooner."""
    return _PROCESSES if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):
    """Each test goes to whoever is free; the folders above go first, since they take longest.

    It is `--dist loadgroup`, which does not see its marks under pytest 9.2 (pytest-xdist#1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_JUDGES):
            return nodeid.partition("::")[0]
        return next((folder for folder in _TOGETHER if nodeid.startswith(folder)), nodeid)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    _forget_the_disk(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


def _forget_the_disk(server: Postgres) -> None:
    """Nothing here must survive a crash of the machine, and each TRUNCATE would wait for the disk."""
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET fsync = off")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()


def create_database(server: Postgres) -> str:
    """A new database on the server, and its DSN."""
    name = f"test_{next(_numbers)}"
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return server.url.replace("/gifty?", f"/{name}?")


@pytest.fixture(scope="session")
def migrated_url(postgres: Postgres) -> str:
    dsn = create_database(postgres)
    database = connect(dsn)
    migrate(database.engine)
    database.close()
    return dsn


@pytest.fixture
def empty_database_url(postgres: Postgres) -> str:
    """A database with nothing in it."""
    return create_database(postgres)


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """A migrated database without rows."""
    connection = psycopg2.connect(migrated_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(_TABLES)} CASCADE")
    connection.close()
    return migrated_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    connected = connect(database_url)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def logic() -> Logic:
    return read_logic(LOCAL_LOGIC)


@pytest.fixture
def store(database: Database, logic: Logic) -> TaskStore:
    return TaskStore(database, lambda: logic)


@pytest.fixture
def leases(database: Database, logic: Logic) -> LeaseStore:
    return LeaseStore(database, lambda: logic, Random(7))
