"""The database and the broker of one stack: those of the environment, else our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gifty_compute.embedded.postgres import Postgres
from gifty_compute.embedded.valkey import Valkey

__all__ = ["Servers", "choose_servers"]


@dataclass(frozen=True)
class Servers:
    """`own` are ours to start, watch and stop."""

    own: Sequence[Postgres | Valkey]
    database_url: Callable[[], str]
    redis_url: Callable[[], str]


def choose_servers(
    environ: Mapping[str, str], data_dir: Path, *, log_dir: Path, hold: Sequence[int]
) -> Servers:
    """DATABASE_URL and REDIS_URL win, each for itself; a URL of our own is known once prepared."""
    own: list[Postgres | Valkey] = []
    if not (database_url := environ.get("DATABASE_URL", "")):
        postgres = Postgres(data_dir / "postgres", log_path=log_dir / "postgres.log", hold=hold)
        own.append(postgres)
    if not (redis_url := environ.get("REDIS_URL", "")):
        valkey = Valkey(data_dir / "valkey", log_path=log_dir / "valkey.log", hold=hold)
        own.append(valkey)
    return Servers(
        own=own,
        database_url=lambda: database_url or postgres.url,
        redis_url=lambda: redis_url or valkey.url,
    )
