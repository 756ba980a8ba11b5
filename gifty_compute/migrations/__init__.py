"""The schema: alembic revisions, applied under an advisory lock by `gifty-compute migrate` and `up` alone."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from gifty_compute.errors import StoreUnavailable

__all__ = ["VERSION_TABLE", "downgrade", "migrate"]

# Gifty's backend has an alembic history of its own in the same database.
VERSION_TABLE = "gifty_compute_version"


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the schema up to the revision; whoever comes second waits and finds it done."""
    _run(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Takes the schema down to the revision.

    "base" removes what was added and keeps the rows of an adopted table, its results and its own indexes;
    widened types and defaults stay.
    """
    _run(engine, lambda config: command.downgrade(config, revision))


def _run(engine: Engine, step: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", "gifty_compute:migrations")
    try:
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            # The limits of the queue's statements are not meant for an index on a large table. Another
            # migration is waited for; a session that holds the table is not: all would queue behind us.
            connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('gifty-compute migrate'))"))
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
            config.attributes["connection"] = connection
            step(config)
    except OperationalError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise StoreUnavailable(f"migration stopped, nothing was changed: {reason}") from error
