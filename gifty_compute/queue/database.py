"""The connection to PostgreSQL: one small pool, autocommit, the clock in UTC, errors as ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import orjson
import psycopg2
from psycopg2.errors import UndefinedTable
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from gifty_compute.clock import Clock, SystemClock
from gifty_compute.errors import GiftyComputeError, InvalidConfig, StoreUnavailable
from gifty_compute.queue.liveness import leave_the_dead
from gifty_compute.queue.patience import Patience
from gifty_compute.queue.prepared import PREPARED, execute_prepared
from gifty_compute.queue.sql import QUERIES

__all__ = ["Database", "connect"]

_DRIVER = "postgresql+psycopg2"
# The driver's own errors come through where SQLAlchemy does not stand between: a COPY, a prepared statement.
_UNREACHABLE = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
)
_COPY_CHUNK = 256 * 1024
_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    # Every statement is written for one plan, a few rows by an index. What the statistics say of a table that
    # was empty, or full, a minute ago must not talk a prepared one into another.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
}
# What we keep, where it does not: a little longer than a statement's own limit, and than that of a COPY.
_STATEMENT_SECONDS, _COPY_SECONDS = 35.0, 630.0
# Who finds no free connection waits, as long as others are being given back.
_TURN_SECONDS, _MOST_TURNS, _STALLED_SECONDS = 1.0, 5, 2.0
# A network that swallows packets: noticed within about 30 seconds, in either direction.
_TCP = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}


def connect(
    dsn: str, *, pool_size: int = 8, most_waiting: int = 1000, clock: Clock | None = None
) -> Database:
    """A database behind a bounded pool; nothing is dialled yet, and no answer awaited forever.

    At most `most_waiting` threads wait for a connection; over it StoreUnavailable is raised at once. A slow
    database does not take the threads of requests that need none.

    Every statement commits by itself: each change of state is one statement, so a transaction would only add
    round trips and hold snapshots open.
    """
    try:
        url = make_url(dsn).set(drivername=_DRIVER)
    except (ArgumentError, ValueError):
        # Their words quote what they take for a port, which may be half of a password.
        message = (
            "DATABASE_URL is not postgresql://user:password@host/name; / : @ # in a password are %-encoded"
        )
        raise InvalidConfig(message) from None
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_TURN_SECONDS,
        json_deserializer=orjson.loads,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "gifty-compute",
            "options": " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
            **_TCP,
        },
    )
    leave_the_dead(engine)
    return Database(engine, clock or SystemClock(), most_waiting=most_waiting)


class Database:
    """Runs the queue's named statements. Raises StoreUnavailable when PostgreSQL cannot be asked."""

    def __init__(self, engine: Engine, clock: Clock, *, most_waiting: int) -> None:
        self.engine, self._clock = engine, clock
        self._line = threading.BoundedSemaphore(most_waiting)
        self._patience = Patience(clock)
        self._given_back = clock.monotonic()
        event.listen(engine, "checkout", self._hand_out)
        event.listen(engine, "checkin", self._give_back)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def rows(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """All rows of a named statement."""
        with self.connection() as connection:
            return self.rows_on(connection, query, **parameters)

    def row(self, query: str, /, **parameters: Any) -> dict[str, Any] | None:
        """The first row of a named statement, or None."""
        rows = self.rows(query, **parameters)
        return rows[0] if rows else None

    @staticmethod
    def rows_on(connection: Connection, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """The same on a connection that the caller holds."""
        if query in PREPARED:
            return execute_prepared(connection, query, parameters)
        return [dict(row) for row in connection.execute(QUERIES[query], parameters).mappings()]

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of the pool, given back at the end."""
        try:
            with self._connect() as connection:
                yield connection
        except _UNREACHABLE as error:
            raise StoreUnavailable("the database does not answer; try again") from error
        except UndefinedTable as error:
            raise _not_migrated() from error
        except DBAPIError as error:
            if isinstance(error.orig, UndefinedTable):
                raise _not_migrated() from error
            if error.connection_invalidated or _is_wordless(error.orig):
                raise StoreUnavailable("the database connection broke; try again") from error
            raise _refused(error.orig) from None
        except psycopg2.Error as error:
            if _is_wordless(error):
                raise StoreUnavailable("the database connection broke; try again") from error
            raise _refused(error) from None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in one transaction, which is committed when the block ends well. Keep it short."""
        with self.connection() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin() as transaction:
                yield connection
                with self._patience.within(_driver(connection), _STATEMENT_SECONDS):
                    transaction.commit()

    def copy_on(self, connection: Connection, query: str, file: IO[bytes]) -> None:
        """Runs a named COPY ... FROM STDIN with all of the file, in the transaction of the connection."""
        connection.execute(QUERIES["copy_patience"])
        file.seek(0)
        # The driver below SQLAlchemy: there is no other way to COPY.
        cursor = cast("psycopg2.extensions.cursor", connection.connection.cursor())
        try:
            with self._patience.within(_driver(connection), _COPY_SECONDS):
                cursor.copy_expert(QUERIES[query].text, file, _COPY_CHUNK)
        finally:
            cursor.close()

    def migrated(self) -> bool:
        """Whether the queue's tables are there."""
        row = self.row("migrated")
        return bool(row and row["migrated"])

    def close(self) -> None:
        self._patience.close()
        self.engine.dispose()

    def _connect(self) -> Connection:
        """A connection as soon as one is free. Raises PoolTimeout, at once where none has come back of late.

        A database that hangs must not take more threads of its callers than it has connections.
        """
        if not self._line.acquire(blocking=False):
            raise StoreUnavailable("too many requests wait for a database connection; try again")
        try:
            return self._connect_in_turn()
        finally:
            self._line.release()

    def _connect_in_turn(self) -> Connection:
        for turn in range(_MOST_TURNS):
            if self._stalled():
                break
            try:
                return self.engine.connect()
            except PoolTimeout:
                if turn == _MOST_TURNS - 1:
                    raise
        raise PoolTimeout("no connection has come back of late")

    def _stalled(self) -> bool:
        pool = cast("QueuePool", self.engine.pool)
        silent = self._clock.monotonic() - self._given_back > _STALLED_SECONDS
        return silent and pool.checkedout() >= pool.size()

    def _hand_out(self, connection: Any, *_: object) -> None:
        # Prepared statements pass by the events below; they come first on a connection, and alone.
        self._patience.begin(connection, _STATEMENT_SECONDS)

    def _give_back(self, connection: Any, _record: object) -> None:
        self._patience.end(connection)
        self._given_back = self._clock.monotonic()

    def _before(self, connection: Connection, *_: object) -> None:
        self._patience.begin(_driver(connection), _STATEMENT_SECONDS)

    def _after(self, connection: Connection, *_: object) -> None:
        self._patience.end(_driver(connection))


def _driver(connection: Connection) -> psycopg2.extensions.connection:
    return cast("psycopg2.extensions.connection", connection.connection.dbapi_connection)


def _is_wordless(error: BaseException | None) -> bool:
    """Whether the connection broke in the middle of an answer: a refusal of PostgreSQL's has an SQLSTATE, and
    what is wrong on our side a class of its own."""
    return type(error) is psycopg2.DatabaseError and error.pgcode is None


def _refused(error: BaseException | None) -> GiftyComputeError:
    """What PostgreSQL says of a statement it quotes from it: rows and values, which must reach no log."""
    told, code = type(error).__name__, getattr(error, "pgcode", None)
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None)
    return GiftyComputeError(f"PostgreSQL refused: {told} {code}{f', {constraint}' if constraint else ''}")


def _not_migrated() -> StoreUnavailable:
    return StoreUnavailable("the database is not migrated; run gifty-compute migrate", retry_after=5)
