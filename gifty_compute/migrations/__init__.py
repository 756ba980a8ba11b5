"""The schema: alembic revisions, applied under an advisory lock by `gifty-compute migrate` and `up` alone."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

__all__ = ["VERSION_TABLE", "downgrade", "migrate"]

# Gifty's backend has an alembic history of its own in the same database.
VERSION_TABLE = "gifty_compute_version"


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the schema up to the revision; whoever comes second waits and finds it done."""
    _run(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Takes the schema down to the revision; "base" gives an adopted table back as it was found."""
    _run(engine, lambda config: command.downgrade(config, revision))


def _run(engine: Engine, step: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", "gifty_compute:migrations")
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        # An index on a large table takes its time; the queries' own limits are not meant for it.
        connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('gifty-compute migrate'))"))
        config.attributes["connection"] = connection
        step(config)
