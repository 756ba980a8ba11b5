"""PostgreSQL of our own: reachable by us alone, and nothing committed is lost."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
import sqlalchemy

from gifty_compute.embedded import postgres as module
from gifty_compute.embedded import unprivileged
from gifty_compute.embedded.binaries import PostgresPrograms, find_postgres
from gifty_compute.embedded.errors import EmbeddedError
from gifty_compute.embedded.postgres import Postgres

Eventually = Callable[[Callable[[], bool]], None]
IsRunning = Callable[[int], bool]

ORDINARY = """
import os, sys
from pathlib import Path
from gifty_compute.embedded.postgres import Postgres
import psycopg2
server = Postgres(Path(sys.argv[1]))
server.start()
with psycopg2.connect(server.url) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT current_user")
    print(os.geteuid(), cursor.fetchone()[0])
connection.close()
server.stop()
"""


@contextlib.contextmanager
def _cursor(url: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def test_url_serves_psycopg2_and_sqlalchemy_below_a_path_with_spaces_and_cyrillic(
    server: Postgres,
) -> None:
    url = server.url.replace("postgresql://", "postgresql+psycopg2://")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    with engine.connect() as connection, _cursor(server.url) as cursor:
        cursor.execute("SELECT lower('ПОДАРОК'), current_database()")
        assert cursor.fetchone() == ("подарок", "gifty")
        assert connection.scalar(sqlalchemy.text("SHOW server_encoding")) == "UTF8"


def test_commits_are_written_to_disk(server: Postgres) -> None:
    with _cursor(server.url) as cursor:
        cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")

        assert cursor.fetchone() == ("on", "on")


def test_only_a_private_socket_leads_in(server: Postgres) -> None:
    directory = _socket_directory(server)

    with _cursor(server.url) as cursor:
        cursor.execute("SHOW listen_addresses")

        assert cursor.fetchone() == ("",)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(os.fsencode(directory / ".s.PGSQL.5432.lock")) <= 107


def test_password_is_private_and_required(server: Postgres) -> None:
    password = server.data_dir / "password"

    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(server.url.replace(password.read_text(), "wrong"))


def test_stop_leaves_no_process_and_no_socket(cluster: Path, is_running: IsRunning) -> None:
    server = Postgres(cluster)
    server.start()
    pid, directory = server.child.pid, _socket_directory(server)

    server.stop()

    assert not is_running(pid)
    assert not directory.exists()


def test_committed_rows_survive_a_kill_of_the_server(cluster: Path, eventually: Eventually) -> None:
    killed = Postgres(cluster)
    killed.start()
    with _cursor(killed.url) as cursor:
        cursor.execute("CREATE TABLE kept (n integer)")
        cursor.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
    left = _socket_directory(killed)
    os.killpg(killed.child.pid, signal.SIGKILL)
    eventually(lambda: killed.child.poll() is not None)
    killed.child.close()

    server = Postgres(cluster)
    server.start()

    with _cursor(server.url) as cursor:
        cursor.execute("SELECT sum(n) FROM kept")
        assert cursor.fetchone() == (500500,)
    assert not left.exists()
    server.stop()


def test_pid_that_now_belongs_to_another_process_is_no_obstacle(cluster: Path, is_running: IsRunning) -> None:
    (cluster / "cluster/postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n1\n5432\n")
    server = Postgres(cluster)

    server.start()

    assert is_running(server.child.pid)
    server.stop()


@pytest.mark.parametrize("text", ["", "\n", "half"])
def test_a_pid_file_that_was_cut_off_is_named_with_what_to_do(cluster: Path, text: str) -> None:
    (cluster / "cluster/postmaster.pid").write_text(text)

    with pytest.raises(EmbeddedError, match=r"postmaster.pid holds no process id, .*: remove it"):
        Postgres(cluster).prepare()


def test_second_server_in_one_cluster_is_refused(server: Postgres) -> None:
    second = Postgres(server.data_dir)

    with pytest.raises(EmbeddedError, match=f"process {server.child.pid}.* already runs in"):
        second.prepare()

    with _cursor(server.url) as cursor:  # the first is unharmed
        cursor.execute("SELECT 1")


def test_interrupted_initdb_was_begun_anew(fresh_cluster: Path) -> None:
    assert not (fresh_cluster / "cluster.new").exists()
    assert (fresh_cluster / "cluster/PG_VERSION").exists()


def test_cluster_of_another_version_is_refused_with_the_way_out(cluster: Path) -> None:
    (cluster / "cluster/PG_VERSION").write_text("12\n")

    with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 12, .* install PostgreSQL 12"):
        Postgres(cluster).start()


def test_server_that_cannot_start_shows_its_log(cluster: Path) -> None:
    with (cluster / "cluster/postgresql.conf").open("a") as config:
        config.write("shared_buffers = nonsense\n")

    with pytest.raises(EmbeddedError, match=r"(?s)PostgreSQL ended with status 1;.*nonsense"):
        Postgres(cluster).start()


def test_distributions_postgres_serves_where_the_wheel_is_missing(tmp_path: Path) -> None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not installed:
        pytest.skip("no PostgreSQL is installed below /usr/lib/postgresql")
    programs = PostgresPrograms(installed[-1] / "initdb", installed[-1] / "postgres")
    server = Postgres(tmp_path, programs=programs)

    server.start()

    with _cursor(server.url) as cursor:
        cursor.execute("SHOW server_version_num")
        assert cursor.fetchone()[0].startswith(str(programs.major))
    server.stop()


@pytest.fixture
def private_programs(tmp_path_factory: pytest.TempPathFactory) -> PostgresPrograms:
    """PostgreSQL as in a checkout below /root: in a directory that nobody else may look into."""
    place = tmp_path_factory.mktemp("private")
    place.chmod(0o700)
    install = find_postgres().postgres.parent.parent
    shutil.copytree(install, place / "pg")
    return PostgresPrograms(place / "pg/bin/initdb", place / "pg/bin/postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another uid for PostgreSQL")
def test_root_without_user_namespaces_runs_it_as_an_unprivileged_user(
    cluster: Path, private_programs: PostgresPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    guise = unprivileged._capability(nobody)
    if not unprivileged._works(guise):
        pytest.skip("this root may not hand on a capability")
    monkeypatch.setattr(module, "find_guise", lambda: guise)
    server = Postgres(cluster, programs=private_programs)

    server.start()

    assert (cluster / "cluster/postmaster.pid").stat().st_uid == nobody
    server.stop()
    monkeypatch.undo()
    server = Postgres(cluster)  # and back, where namespaces work again
    server.start()
    server.stop()


def test_ordinary_user_runs_it(fresh_cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        assert unprivileged.find_guise().prefix == ()
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    # The interpreter may lie below /root: the user may read there, and is ordinary otherwise.
    right = (
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--securebits=+no_setuid_fixup",
    )
    become = ("setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", *right)
    if shutil.which("setpriv") is None or subprocess.run([*become, "true"], check=False).returncode:
        pytest.skip("root cannot become an ordinary user with setpriv here")
    home = tmp_path_factory.mktemp("ordinary") / "postgres"
    shutil.copytree(fresh_cluster, home)
    for path in (home, *home.rglob("*")):
        os.chown(path, nobody, nobody)

    run = subprocess.run(
        [*become, sys.executable, "-c", ORDINARY, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.stderr == ""
    assert re.fullmatch(rf"{nobody} gifty\n", run.stdout)


def _socket_directory(server: Postgres) -> Path:
    return Path(parse_qs(urlsplit(server.url).query)["host"][0])
